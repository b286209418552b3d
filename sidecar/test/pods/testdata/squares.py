"""A group of N tasks, each of which takes a while; task i returns i*i.

Arguments: N, how many seconds a task takes, a Redis list for marks. Prints one
JSON object: the results as the producer reads them.
"""

import json
import os
import sys

import redis
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup
from graflow.core.workflow import workflow

N, SECONDS = int(sys.argv[1]), float(sys.argv[2])


def config():
    client = redis.Redis(host="localhost", port=6379, password=os.environ["PRODUCER_PASSWORD"], decode_responses=True)
    return {"redis_client": client, "key_prefix": os.environ["PRODUCER_PREFIX"]}


with workflow("squares") as wf:

    def square(i):
        @task(id=f"square_{i}")
        def body():
            import time

            time.sleep(SECONDS)
            return i * i

        return body

    members = [square(i) for i in range(N)]
    ParallelGroup(members, name="squares").with_execution(
        backend=CoordinationBackend.REDIS, backend_config=config(), policy="strict"
    )
    ctx = ExecutionContext.create(wf.graph, "squares", channel_backend="redis", config=config())
    WorkflowEngine().execute(ctx)
    print(json.dumps({m.task_id: ctx.get_result(m.task_id) for m in members}), flush=True)
