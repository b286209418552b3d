"""Graflow's example of distributed execution, adapted.

After examples/05_distributed/redis_worker.py of Graflow
(https://github.com/GraflowAI/graflow, Apache-2.0): three tasks of half a second
each in one Redis group, their results printed. Written anew for these tests:
Redis is where the environment says, the workers are started from outside, and
the error that the example would print ends the script.
"""

import os
import time

import redis
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.engine import WorkflowEngine
from graflow.core.workflow import workflow


def main():
    redis_client = redis.Redis(
        host=os.environ["REDIS_HOST"], port=int(os.environ["REDIS_PORT"]), decode_responses=True
    )

    with workflow("worker_demo") as wf:

        @task
        def test_task_1():
            time.sleep(0.5)
            return "result_1"

        @task
        def test_task_2():
            time.sleep(0.5)
            return "result_2"

        @task
        def test_task_3():
            time.sleep(0.5)
            return "result_3"

        group = (test_task_1 | test_task_2 | test_task_3).set_group_name("parallel_tasks")
        group.with_execution(backend=CoordinationBackend.REDIS)

        # The prefix must be the one that the workers were started with.
        config = {"redis_client": redis_client, "key_prefix": os.environ["REDIS_KEY_PREFIX"]}
        ctx = ExecutionContext.create(
            wf.graph, start_node="parallel_tasks", channel_backend="redis", max_steps=100, config=config
        )
        ctx.channel.clear()

        WorkflowEngine().execute(ctx)

        print("Results")
        for name in ["test_task_1", "test_task_2", "test_task_3"]:
            print(f"Task {name}: {ctx.get_result(name)}")


if __name__ == "__main__":
    main()
