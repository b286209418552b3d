"""Store a graph with a task that does nothing, as Graflow's producer does, and
print the parts of a record that names it, as JSON."""

import json
import os

import redis
from graflow.coordination.graph_store import GraphStore
from graflow.core.decorators import task
from graflow.core.workflow import workflow

client = redis.Redis.from_url(os.environ["REDIS_URL"])
with workflow("bench") as flow:

    @task
    def nothing():
        return None


prefix = os.environ["REDIS_KEY_PREFIX"]
graph_hash = GraphStore(client, prefix).save(flow.graph)
print(json.dumps({"task_id": "nothing", "graph_hash": graph_hash, "session_id": "bench"}))
