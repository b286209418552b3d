"""Groups inside groups inside groups, three of them run by workers.

Each of level_1, level_2 and level_3 is dispatched by the task around it, which
then waits for its barrier and holds its worker meanwhile.
"""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("deep") as wf:

    def leaf(name):
        @task(id=name)
        def body():
            return f"{name} done"

        return body

    level_3 = redis_group([leaf("c_1"), leaf("c_2"), leaf("c_3")], "level_3")
    level_2 = redis_group([leaf("b_1"), level_3, leaf("b_2")], "level_2")
    level_1 = redis_group([level_2, leaf("a_1")], "level_1")
    redis_group([leaf("top_1"), level_1, leaf("top_2")], "top")
    ctx = run(context(wf, "top"))
    names = ["top_1", "top_2", "a_1", "b_1", "b_2", "c_1", "c_2", "c_3"]
    finish(results={name: ctx.get_result(name) for name in names})
