"""with Sidecar(redis="embedded", workers=2): around real Graflow workflows."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import uuid
from pathlib import Path

from tests.support import PATIENCE, ROOT, WorkerCase, until

SCRIPT = """
import json, os, signal, sys, time
import redis
from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup
from graflow_sidecar import Sidecar

how = sys.argv[1]

@task
def left():
    return os.getpid()

@task
def right():
    return os.getpid()

with Sidecar(redis="embedded", workers=2) as s:
    client = redis.Redis.from_url(s.redis_url, decode_responses=True)
    config = {"redis_client": client, "key_prefix": "graflow"}
    with workflow("w") as flow:
        ParallelGroup([left, right], name="both").with_execution(
            backend=CoordinationBackend.REDIS, backend_config=config)
    context = ExecutionContext.create(flow.graph, "both", channel_backend="redis", config=config)
    WorkflowEngine().execute(context)
    done = [context.get_result("left"), context.get_result("right")]
    print(json.dumps({"url": s.redis_url, "pid": s.process.pid, "workers": done}), flush=True)
    if how == "raise":
        raise ValueError("from the body")
    if how == "wait":
        time.sleep(600)
print("after", flush=True)
"""


class TestContextManagerPattern(WorkerCase):
    @classmethod
    def setUpClass(cls):
        binary = os.environ.get("SIDECAR_BIN")
        if not binary:
            folder = tempfile.TemporaryDirectory()
            cls.addClassCleanup(folder.cleanup)
            binary = str(Path(folder.name) / "sidecar")
            subprocess.run(
                ["go", "build", "-o", binary, "./sidecar"], cwd=str(ROOT.parents[1]), check=True
            )
        cls.binary = binary

    def script_runs(self, how):
        self.mark = f"CONTEXT_MANAGER_MARK={uuid.uuid4().hex}"
        self.temp = self.folder()
        name, _, value = self.mark.partition("=")
        process = subprocess.Popen(
            [sys.executable, self.script(SCRIPT), how],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SIDECAR_BIN": self.binary,
                "TMPDIR": str(self.temp),
                name: value,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def processes(self):
        """Those of the script, by what they have inherited."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(path.parent.name)
            except OSError:
                pass
        return found

    def nothing_is_left(self, output):
        self.assertEqual(self.processes(), [])
        self.assertEqual(list(self.temp.iterdir()), [])
        port = int(re.search(r"127\.0\.0\.1:(\d+)", output).group(1))
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0, "Redis still listens")

    def no_trouble(self, log):
        """Redis stopped last, so no line complains of it."""
        for word in ("closed file", "Bad file descriptor", "refused", '"level":"ERROR"'):
            self.assertNotIn(word, log)

    def test_a_workflow(self):
        process = self.script_runs("end")
        out, log = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, log)
        self.assertIn("after", out)
        self.nothing_is_left(out)
        self.no_trouble(log)
        self.assertNotIn("Traceback", log)

    def test_an_exception_in_the_body(self):
        process = self.script_runs("raise")
        out, log = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1, log)
        self.assertNotIn("after", out)
        self.assertEqual(log.count("Traceback"), 1, log)
        self.assertTrue(log.rstrip().endswith("ValueError: from the body"), log)
        # First the clean stop, and then the exception.
        self.assertLess(log.index("sidecar stopped"), log.index("Traceback"))
        self.nothing_is_left(out)
        self.no_trouble(log)

    def test_a_script_that_is_killed(self):
        process = self.script_runs("wait")
        out = process.stdout.readline()
        self.assertIn("url", out, "it did not get there")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        until(lambda: not self.processes(), "the end of the sidecar, its workers and its Redis")
        self.nothing_is_left(out)
        self.no_trouble(process.stderr.read())


if __name__ == "__main__":
    unittest.main()
