"""Pushes Graflow tasks for TestAPythonChildAndItsRedis.

Usage: flight.py URL PREFIX TASK FOLDER

TASK is "flight", which writes to its channel again and again until FOLDER/gate
is there, or "short". It notes each of its starts in FOLDER/starts. Prints the
session.
"""

import sys

import redis
from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.queue.base import TaskSpec
from graflow.queue.distributed import DistributedTaskQueue

url, prefix, name, folder = sys.argv[1:]
client = redis.Redis.from_url(url, decode_responses=True)
config = {"redis_client": client, "key_prefix": prefix}


def flight(context):
    import os
    import time

    with open(f"{folder}/starts", "a") as starts:
        starts.write("started\n")
    channel = context.get_channel()
    number = 0
    while not os.path.exists(f"{folder}/gate"):
        number += 1
        channel.set("number", number)
        assert channel.get("number") == number
        time.sleep(0.02)
    return number


def short(context):
    return context.get_channel().get("number") is None


with workflow("w") as flow:
    body = task(inject_context=True, id=name)({"flight": flight, "short": short}[name])
context = ExecutionContext.create(flow.graph, name, channel_backend="redis", config=config)
queue = DistributedTaskQueue(redis_client=client, key_prefix=prefix)
queue.enqueue(TaskSpec(executable=body, execution_context=context))
print(context.session_id)
