"""A group of N tasks, N given as the argument: task i returns i*i."""

import sys

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

N = int(sys.argv[1])

with workflow("squares") as wf:

    def square(i):
        @task(id=f"square_{i}")
        def body():
            return i * i

        return body

    members = [square(i) for i in range(N)]
    redis_group(members, "squares")
    ctx = run(context(wf, "squares"))
    finish(
        session=ctx.session_id,
        results={m.task_id: ctx.get_result(m.task_id) for m in members},
    )
