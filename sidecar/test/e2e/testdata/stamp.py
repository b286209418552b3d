"""A task that says which code its worker's interpreter started with."""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("stamp") as wf:

    @task
    def stamp():
        import sys

        return getattr(sys, "stamp", None)

    redis_group([stamp], "stamps")
    ctx = context(wf, "stamps")
    run(ctx)
    finish(stamp=ctx.get_result("stamp"))
