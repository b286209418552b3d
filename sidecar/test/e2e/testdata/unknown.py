"""Records that no worker can run: their graph or their task does not exist.

Prints Graflow's own words for each beside what the group was told.
"""

import json
import time

from flow import PREFIX, client, context, finish
from graflow.coordination.graph_store import GraphStore
from graflow.coordination.records import SerializedTaskRecord
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.worker.context_factory import ExecutionContextFactory

raw = client()
store = GraphStore(raw, PREFIX)
with workflow("unknown") as wf:

    @task
    def known():
        return "known"

    ctx = context(wf, "known")
    graph = store.save(wf.graph)


def record(task_id, graph_hash):
    return SerializedTaskRecord(
        task_id=task_id,
        session_id=ctx.session_id,
        graph_hash=graph_hash,
        trace_id=ctx.trace_id,
        created_at=time.time(),
        group_id="unknown",
    )


def expected(r):
    try:
        ExecutionContextFactory.create_from_record(r, store)
    except ValueError as e:
        return str(e)


records = [record("lost", "0" * 64), record("missing", graph), record("known", graph)]
raw.set(f"{PREFIX}:barrier:unknown:expected", len(records))
for r in records:
    raw.lpush(f"{PREFIX}:queue", r.to_json())

deadline = time.monotonic() + 20
while time.monotonic() < deadline and raw.hlen(f"{PREFIX}:completions:unknown") < len(records):
    time.sleep(0.02)
told = {k: json.loads(v) for k, v in raw.hgetall(f"{PREFIX}:completions:unknown").items()}
finish(
    told={name: [c["success"], c["error_message"]] for name, c in told.items()},
    expected={r.task_id: expected(r) for r in records},
    counter=raw.get(f"{PREFIX}:barrier:unknown"),
)
