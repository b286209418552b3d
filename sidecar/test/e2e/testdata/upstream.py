"""Results of earlier tasks arrive as keyword arguments.

`load` runs in the producer; `total`, `count` and `scaled` run in workers and
take its result, a plain channel value, a bound argument and a default; `report`
runs in the producer again and takes what the workers left.
"""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("upstream") as wf:

    @task
    def load():
        return {"rows": [1, 2, 3]}

    @task
    def total(load):
        return sum(load["rows"])

    @task
    def count(load, *, unit="rows"):
        return f"{len(load['rows'])} {unit}"

    @task
    def scale(load, factor, offset, missing="default"):
        return [[row * factor + offset for row in load["rows"]], missing]

    @task(inject_context=True)
    def by_name(ctx, load):
        return [ctx.get_result("load") == load, ctx.get_channel().get("factor"), ctx.session_id != ""]

    @task(inject_context=True)
    def report(ctx, total, count, scaled):
        return {"total": total, "count": count, "scaled": scaled, "by_name": ctx.get_result("by_name")}

    members = [total, count, scale(task_id="scaled", offset=100), by_name]
    load >> redis_group(members, "use") >> report
    ctx = run(context(wf, "load", factor=10))
    finish(result=ctx.get_result("report"))
