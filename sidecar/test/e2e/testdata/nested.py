"""Groups inside groups.

`outer` has a plain task, a group as a member, and a task that makes a group of
its own and runs it as its next task: the last two dispatch their members from
inside a worker and wait there for their barrier.
"""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("nested") as wf:

    def leaf(name):
        @task(id=name)
        def body():
            return f"{name} done"

        return body

    @task(inject_context=True)
    def fan_out(ctx):
        from graflow.coordination.coordinator import CoordinationBackend
        from graflow.core.task import ParallelGroup

        made = ParallelGroup([leaf("made_1"), leaf("made_2"), leaf("made_3")], name="made")
        ctx.next_task(made.with_execution(backend=CoordinationBackend.REDIS))
        return "fanned out"

    inner = redis_group([leaf("inner_1"), leaf("inner_2")], "inner")
    redis_group([leaf("plain"), inner, fan_out], "outer")
    ctx = run(context(wf, "outer"))
    names = ["plain", "inner_1", "inner_2", "made_1", "made_2", "made_3", "fan_out"]
    finish(results={name: ctx.get_result(name) for name in names})
