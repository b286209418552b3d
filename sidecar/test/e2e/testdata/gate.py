"""Tasks that mark their start and wait at a gate, for tests that stop workers.

Arguments: the number of tasks, the Redis list for the marks, the Redis list
that is the gate (one push lets one task go). Records are pushed with no group,
in order, and the script does not wait for them.
"""

import sys

from flow import HOST, PORT, PREFIX, client, context, finish
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.queue.base import TaskSpec
from graflow.queue.distributed import DistributedTaskQueue

N, MARKS, GATE = int(sys.argv[1]), sys.argv[2], sys.argv[3]

with workflow("gate") as wf:

    def member(i):
        @task(id=f"member_{i}")
        def body():
            import redis

            raw = redis.Redis(host=HOST, port=PORT)
            raw.rpush(MARKS, f"member_{i}")
            raw.blpop(GATE, timeout=30)
            return i

        return body

    members = [member(i) for i in range(N)]
    ctx = context(wf, "member_0")
    queue = DistributedTaskQueue(redis_client=client(), key_prefix=PREFIX)
    for m in members:
        queue.enqueue(TaskSpec(executable=m, execution_context=ctx))
    finish(session=ctx.session_id)
