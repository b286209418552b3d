"""What every producer script shares: where Redis is, and how a group is run.

The scripts are run by the Go tests of this folder, each in a process of its
own, with REDIS_HOST, REDIS_PORT and REDIS_KEY_PREFIX set. Each prints one JSON
object on its last line. Workers do not have this folder on their path: what a
task needs it takes with it (cloudpickle copies functions of __main__), so
nothing here may be used inside a task.
"""

import json
import os
import sys

import redis
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup

HOST = os.environ["REDIS_HOST"]
PORT = int(os.environ["REDIS_PORT"])
PREFIX = os.environ["REDIS_KEY_PREFIX"]


def client():
    """The text client that Graflow's documentation tells producers to use."""
    return redis.Redis(host=HOST, port=PORT, decode_responses=True)


def config():
    return {"redis_client": client(), "key_prefix": PREFIX}


def redis_group(tasks, name, policy="strict"):
    """A group whose tasks are dispatched through the Redis queue."""
    return ParallelGroup(tasks, name=name).with_execution(
        backend=CoordinationBackend.REDIS, backend_config=config(), policy=policy
    )


def context(workflow, start, **channel):
    """A new session; channel holds the values that are there from the start."""
    ctx = ExecutionContext.create(workflow.graph, start, channel_backend="redis", config=config())
    for key, value in channel.items():
        ctx.channel.set(key, value)
    return ctx


def run(ctx):
    WorkflowEngine().execute(ctx)
    return ctx


def finish(**fields):
    """Print the script's one line of result."""
    json.dump(fields, sys.stdout)
    print(flush=True)
