"""A group whose tasks a shell script does: their bodies here never run."""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.exceptions import ParallelGroupError

NAMES = ["sum", "text", "nothing", "later", "broken", "wordless"]

with workflow("script") as wf:

    def stub(name):
        @task(id=name)
        def body():
            raise RuntimeError("the producer's body ran")

        return body

    redis_group([stub(name) for name in NAMES], "script")
    ctx = context(wf, "script")
    failed = {}
    try:
        run(ctx)
    except ParallelGroupError as e:
        failed = dict(e.failed_tasks)
    finish(failed=failed, results={name: ctx.get_result(name) for name in NAMES if name not in failed})
