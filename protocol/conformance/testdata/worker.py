"""A worker whose tasks do all that the kit can ask for, on the Python SDK.

It prints to stdout, which is a mistake, and more to stderr than a pipe holds.
"""

import sys
import time

from graflow_sidecar import TaskError, serve


def handle(task):
    print("a print,", end=" ")
    kind = task.record["task_id"]
    if kind == "quick":
        return task.record
    if kind == "slow":
        sys.stderr.write("noise " * 40_000 + "\n")
        task.progress(0.5, "half")
        task.log("half", level="debug", of=task.attempt)
        with task.waiting():
            time.sleep(task.record["seconds"])
        return None
    if kind == "retryable":
        raise TaskError("not now", retryable=True)
    if kind == "large":
        return "x" * 5000
    if kind == "exact":
        return {"nan": float("nan"), "big": 1 << 60}
    raise KeyError(kind)


serve(handle, concurrency=int(sys.argv[1]), name="sdk", version="1")
