"""The same graph run several times by one producer, with next_task in a task.

next_task adds a node to the graph object that a worker has in hand. If a worker
keeps that object for the next run, the node is already there, next_task becomes
a jump, and the task's real successor never runs.
"""

from flow import HOST, PORT, client, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

RUNS = 6

with workflow("twice") as wf:

    def changes(name):
        @task(id=name, inject_context=True)
        def body(ctx):
            from graflow.core.task import TaskWrapper

            ctx.next_task(TaskWrapper(f"added_by_{name}", lambda: None, register_to_context=False))

        return body

    def follows(name):
        @task(id=f"after_{name}", inject_context=True)
        def body(ctx):
            import redis

            redis.Redis(host=HOST, port=PORT).rpush(f"e2e:{ctx.session_id}", f"after_{name}")

        return body

    members = [changes("first"), changes("second")]
    for member in members:
        member >> follows(member.task_id)
    redis_group(members, "twice")

    raw = client()
    followed, graphs = [], set()
    for _ in range(RUNS):
        ctx = run(context(wf, "twice"))
        followed.append(sorted(raw.lrange(f"e2e:{ctx.session_id}", 0, -1)))
        graphs.add(ctx.graph_hash)
    # One hash: every run named the same graph, or the test would prove nothing.
    finish(followed=followed, graphs=len(graphs))
