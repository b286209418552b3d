"""The worker of the incidents: it makes previews, and it has two faults.

It needs its licence server, which is a file here, and ends without it. And it
dies of a document that is damaged, until it is put right.
"""

import faulthandler
import os
import signal
import sys
import threading
import time

from graflow_sidecar import serve

HERE = os.environ["INCIDENT"]
LICENCE = os.path.join(HERE, "licence-server")
RELEASE = os.path.join(HERE, "release-2")
BUSY = os.path.join(HERE, "busy")  # while it is there, large documents take their time


def check() -> None:
    if not os.path.exists(LICENCE):
        print("licence server: connection refused", file=sys.stderr, flush=True)
        os._exit(3)


def watch() -> None:
    while True:
        check()
        time.sleep(0.02)


def preview(task):
    name = task.record["params"]["file"]
    while name == "large.pdf" and os.path.exists(BUSY):
        time.sleep(0.02)
    if name == "damaged.pdf" and not os.path.exists(RELEASE):
        print("damaged.pdf: page 7: bad cross reference", file=sys.stderr, flush=True)
        faulthandler.disable()  # a stack has this machine's paths
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"preview": name + ".png"}


check()
threading.Thread(target=watch, daemon=True).start()
serve(preview)
