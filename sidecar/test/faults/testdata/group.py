"""A group of N tasks that sleep for S seconds each and write their start and
end to a history file: group.py N S HISTORY [killer] [channel].

With "killer" the first task kills the process that runs it. With "channel" each
task leaves a value in its workflow's channel before it ends. Where Redis is
comes from REDIS_HOST, REDIS_PORT and REDIS_KEY_PREFIX.
"""

import os
import sys

import redis
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup
from graflow.core.workflow import workflow

count, seconds, history = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
killer, channel = "killer" in sys.argv[4:], "channel" in sys.argv[4:]
config = {
    "redis_client": redis.Redis(
        host=os.environ["REDIS_HOST"], port=int(os.environ["REDIS_PORT"]), decode_responses=True
    ),
    "key_prefix": os.environ["REDIS_KEY_PREFIX"],
}

with workflow("faults") as wf:

    def member(i):
        @task(id=f"sleep_{i}", inject_context=True)
        def body(ctx):
            # Workers do not have this file: a task takes with it what it needs.
            import json
            import os
            import signal
            import time

            def note(what):
                line = {"at": time.time_ns(), "what": what, "task": f"sleep_{i}", "pid": os.getpid()}
                fd = os.open(history, os.O_WRONLY | os.O_APPEND)
                os.write(fd, json.dumps(line).encode() + b"\n")
                os.close(fd)

            note("start")
            if killer and i == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds)
            if channel:
                ctx.get_channel().set(f"value_{i}", i)
            note("end")
            return i

        return body

    group = ParallelGroup([member(i) for i in range(count)], name="sleepers").with_execution(
        backend=CoordinationBackend.REDIS, backend_config=config, policy="best_effort"
    )
    ctx = ExecutionContext.create(wf.graph, "sleepers", channel_backend="redis", config=config)
    WorkflowEngine().execute(ctx)
