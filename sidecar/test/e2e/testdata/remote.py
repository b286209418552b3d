"""Tasks that a worker in Go runs, in chains of a producer with real Graflow."""

import os
import sys
import threading

sys.path.insert(0, os.path.abspath("../../../../examples/python-worker"))

from flow import context, finish, redis_group, run  # noqa: E402
from graflow.core.decorators import task  # noqa: E402
from graflow.core.workflow import workflow  # noqa: E402
from graflow_sidecar import remote_task  # noqa: E402

here = threading.Lock()  # what cannot be pickled, and need not be


@task
def fetch():
    with here:
        return [3, 1.0, 2**60, "ä\u2028"]


@task
def report(echo_1):
    return echo_1


# Values in both directions, under another name and under their own.
with workflow("chain") as chain:
    params = {"bound": {"x": 1.0, "big": 2**70}, "shadowed": "bound"}
    echo = remote_task("echo_1", inputs={"rows": "fetch", "key": "key"}, params=params)
    fetch >> echo >> report
ctx = run(context(chain, "fetch", key="from the channel", shadowed="from the channel"))
values = repr(ctx.get_result("report"))

# A second task of the same worker, made from the first; all at once, in a group.
with workflow("group") as group:
    first = remote_task("echo_2", params={"n": 1})
    members = [first] + [first(task_id=f"echo_{i}", n=i) for i in range(3, 8)]
    redis_group(members, "group")
ctx = run(context(group, "group"))
bound = [ctx.get_result(member.task_id).get("n") for member in members]

# What fails, fails the task of the workflow, in the worker's words.
with workflow("fails") as fails:
    remote_task("fail")
failed = context(fails, "fail")
try:
    run(failed)
    error = None
except Exception as exc:
    error = f"{type(exc).__name__}: {exc}"

# And what the worker retries itself is one task for the producer.
with workflow("retried") as retried:
    remote_task("retried", inputs=["tries"])
ctx = run(context(retried, "retried", tries=2))

finish(values=values, bound=bound, error=error, tries=ctx.get_result("retried"))
