"""Tasks that steer: next_task, goto, next_iteration, retries and early ends.

Workers run what a task adds on the spot, in the same process and before the
task's completion is reported, so everything is there when the group is over.
"""

from flow import HOST, PORT, client, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("dynamic") as wf:

    def leave(ctx, word):
        import redis

        redis.Redis(host=HOST, port=PORT).rpush(f"e2e:{ctx.session_id}", word)

    @task(inject_context=True)
    def adds(ctx):
        from graflow.core.task import TaskWrapper

        leave(ctx, "adds")
        ctx.next_task(TaskWrapper("added", lambda: "added", register_to_context=False))
        return "adds"

    @task(inject_context=True)
    def after_adds(ctx):
        leave(ctx, "after_adds")
        return "after_adds"

    @task(inject_context=True)
    def jumps(ctx):
        leave(ctx, "jumps")
        ctx.next_task(ctx.graph.get_node("target"), goto=True)

    @task(inject_context=True)
    def skipped(ctx):
        leave(ctx, "skipped")

    @task(inject_context=True)
    def target(ctx):
        leave(ctx, "target")
        return "target"

    @task(inject_context=True)
    def iterates(ctx, n=0):
        leave(ctx, f"iteration {n}")
        if n < 4:
            ctx.next_iteration(n + 1)
        return n

    @task(inject_context=True, max_retries=3)
    def flaky(ctx):
        leave(ctx, f"try {ctx.retry_count}")
        if ctx.retry_count < 2:
            raise ValueError("not yet")
        return f"third time, {ctx.max_retries} allowed"

    @task(inject_context=True)
    def ends_early(ctx):
        ctx.terminate_workflow("enough")
        return "ended"

    @task(inject_context=True)
    def never(ctx):
        leave(ctx, "never")

    adds >> after_adds
    jumps >> skipped
    ends_early >> never
    members = [adds, jumps, iterates, flaky, ends_early]
    redis_group(members, "dynamic")
    ctx = run(context(wf, "dynamic"))
    names = ["adds", "added", "after_adds", "target", "iterates", "flaky", "ends_early"]
    finish(
        results={name: ctx.get_result(name) for name in names},
        trail=sorted(client().lrange(f"e2e:{ctx.session_id}", 0, -1)),
    )
