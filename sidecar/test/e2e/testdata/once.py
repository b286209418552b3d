"""A group of N tasks that each leave one mark outside: which worker ran it, and when."""

import sys

from flow import HOST, PORT, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

N = int(sys.argv[1])
MARKS = sys.argv[2]

with workflow("once") as wf:

    def member(i):
        @task(id=f"member_{i}")
        def body():
            import os
            import time

            import redis

            time.sleep(0.01)  # work, so that every worker gets a share
            worker = "sidecar" if os.environ.get("SIDECAR_PROCESS_ID") else "graflow"
            name = os.environ.get("WORKER_ID", "?")
            redis.Redis(host=HOST, port=PORT).rpush(MARKS, f"member_{i} {worker} {name}")
            return i

        return body

    members = [member(i) for i in range(N)]
    redis_group(members, "once")
    ctx = run(context(wf, "once"))
    finish(results=[ctx.get_result(m.task_id) for m in members])
