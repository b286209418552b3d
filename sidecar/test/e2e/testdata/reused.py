"""One group name used again and again, also with another run's rests in Redis.

A producer that was killed leaves its group's completions, counter and expected
number behind; Graflow clears the counter at the next run, not the completions.
"""

import json

from flow import PREFIX, client, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

raw = client()
outcomes = []

for round_ in range(5):
    with workflow(f"round_{round_}") as wf:

        def member(name):
            @task(id=name)
            def body():
                return [round_, name]

            return body

        names = ["a", "b", "c"]
        redis_group([member(name) for name in names], "reused")
        if round_ in (1, 3):
            for name in names:
                stale = {"task_id": name, "success": False, "timestamp": 1.0, "error_message": "stale"}
                raw.hset(f"{PREFIX}:completions:reused", name, json.dumps(stale))
        if round_ == 3:
            raw.set(f"{PREFIX}:barrier:reused", 2)
            raw.set(f"{PREFIX}:barrier:reused:expected", 7)
        ctx = run(context(wf, "reused"))
        outcomes.append([ctx.get_result(name) for name in names])

finish(outcomes=outcomes, left=sorted(raw.scan_iter(f"{PREFIX}:barrier*")))
