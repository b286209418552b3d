"""Plays three incidents with the real binary and writes docs/incident.md, or, with
--check, says whether that is still what happens.

Usage: incident.py SIDECAR-BINARY PAGE [--check]
"""

import difflib
import os
import shutil
import socket
import sys
import tempfile

from incidents import crash_loop, poison_task, redis_is_gone
from page import Page
from stage import Redis, Sidecar

HEAD = """
<!-- Written by scripts/incident; `scripts/incident --check` compares. -->

# Incidents

Three incidents with the real binary, a real Redis and a worker that has two faults
([worker.py](../sidecar/test/lifecycle/incident/worker.py)). `scripts/incident` plays them
and writes this page: it shows what was printed, without ids, times and process
ids. [operations.md](operations.md) explains each line; `sidecar explain ID` prints the
section of its `id`.

The sidecar was started with `MAX_CONCURRENT_TASKS=2 sidecar run -- python3 worker.py`,
and the lines of its log are shown without what differs from one run to the next.
"""


class Setup:
    """The page, Redis and sidecar that the three incidents share."""

    def __init__(self, binary, scratch):
        self.scratch = scratch
        self.page = Page({})
        self.redis = Redis(scratch, self.page)
        open(self.path("licence-server"), "w").close()
        self.sidecar = Sidecar(binary, scratch, self.redis, self.page)
        self.page.known = {
            scratch: "/srv/previews", os.path.dirname(os.path.abspath(__file__)) + "/": "", f":{self.redis.port}": ":6379", f":{self.sidecar.http}": ":8000",
            f" {socket.gethostname()} ": " worker-1 ", "127.0.0.1": "localhost", sys.executable: "python3",
        }

    def path(self, name):
        return os.path.join(self.scratch, name)

    def over(self):
        if self.redis.process.poll() is not None:
            self.redis.start()
        self.sidecar.stop()
        self.redis.kill()


def play(binary):
    scratch = tempfile.mkdtemp()
    setup = Setup(binary, scratch)
    try:
        setup.page.text(HEAD)
        for incident in (redis_is_gone, crash_loop, poison_task):
            incident(setup)
        return setup.page.whole()
    finally:
        setup.over()
        shutil.rmtree(scratch)


def main():
    binary, path, *options = sys.argv[1:]
    text = play(binary)
    if options != ["--check"]:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return
    with open(path, encoding="utf-8") as f:
        old = f.read()
    if old != text:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), path, "what happens now"))
        sys.exit(f"{path} is stale; run: scripts/incident")


if __name__ == "__main__":
    main()
