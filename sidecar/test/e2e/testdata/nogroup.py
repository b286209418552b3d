"""Records with no group, as a producer puts them on the queue one by one."""

import time

from flow import PREFIX, client, context, finish
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.queue.base import TaskSpec
from graflow.queue.distributed import DistributedTaskQueue

with workflow("nogroup") as wf:

    @task
    def one():
        return 1

    @task
    def two():
        return 2

    @task
    def fails():
        raise ValueError("nobody is told")

    ctx = context(wf, "one")
    queue = DistributedTaskQueue(redis_client=client(), key_prefix=PREFIX)
    for member in [one, fails, two]:
        queue.enqueue(TaskSpec(executable=member, execution_context=ctx))

    deadline = time.monotonic() + 20
    names = ["one", "two", "fails"]
    while time.monotonic() < deadline and not all(ctx.channel.exists(f"{n}.__result__") for n in names):
        time.sleep(0.02)
    finish(
        results={name: ctx.get_result(name) for name in names},
        left=sorted(client().scan_iter(f"{PREFIX}:[bc]*")),  # barriers and completions
    )
