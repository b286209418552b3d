"""Tasks that try to end their process, beside one that does not."""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.exceptions import ParallelGroupError

with workflow("exits") as wf:

    @task
    def with_status():
        import sys

        sys.exit(3)

    @task
    def with_text():
        raise SystemExit("goodbye")

    @task
    def bare():
        exit()

    @task
    def interrupted():
        raise KeyboardInterrupt

    @task
    def stays():
        return "still here"

    redis_group([with_status, with_text, bare, interrupted, stays], "exits")
    ctx = context(wf, "exits")
    failed = {}
    try:
        run(ctx)
    except ParallelGroupError as e:
        failed = dict(e.failed_tasks)
    finish(failed=failed, stays=ctx.get_result("stays"))
