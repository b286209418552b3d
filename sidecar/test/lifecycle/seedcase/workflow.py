"""A distributed workflow whose clean-up stops Redis first and its workers second.

Usage: workflow.py graflow|sidecar

It is the case that this project comes from, as one script: it starts a Redis and
two workers, runs a group through them, and cleans up in the wrong order, while
one more task is running. With "graflow" the workers are Graflow's own, threads
of this script that share its client; with "sidecar" they are the sidecar's.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing

import redis
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup
from graflow.core.workflow import workflow
from graflow.queue.base import TaskSpec
from graflow.queue.distributed import DistributedTaskQueue

PREFIX = "graflow"
TASKS = 6


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Graflows:
    """Two of Graflow's workers, in this process."""

    def __init__(self, url, client):
        from graflow.worker.worker import TaskWorker

        # A text client for the queue, and bytes for the graphs: with one text
        # client for both Graflow 0.1.9 fails to load any graph.
        self.workers = [
            TaskWorker(
                queue=DistributedTaskQueue(redis_client=client, key_prefix=PREFIX),
                worker_id=f"worker-{number}",
                max_concurrent_tasks=2,
                poll_interval=0.005,
                graceful_shutdown_timeout=5.0,
            )
            for number in (1, 2)
        ]
        for worker in self.workers:
            worker.start()

    def stop(self):
        for worker in self.workers:
            worker.stop()


class Sidecars:
    """The sidecar with as many slots."""

    def __init__(self, url, client):
        from graflow_sidecar import Sidecar

        self.sidecar = Sidecar(redis=url, workers=4, key_prefix=PREFIX, stop_timeout=5.0)
        self.sidecar.start()

    def stop(self):
        self.sidecar.stop()


def dispatch(config):
    """A group of tasks through Redis; how many of them left their result."""
    with workflow("seed_case") as flow:

        def member(number):
            @task(id=f"member_{number}")
            def body():
                return number

            return body

        members = [member(number) for number in range(TASKS)]
        ParallelGroup(members, name="members").with_execution(
            backend=CoordinationBackend.REDIS, backend_config=config
        )
    context = ExecutionContext.create(
        flow.graph, "members", channel_backend="redis", config=config
    )
    WorkflowEngine().execute(context)
    return sum(context.get_result(m.task_id) == n for n, m in enumerate(members))


def one_more(config, client):
    """A task that uses its channel over and over until long after the clean-up has begun."""
    with workflow("late") as flow:

        @task(id="late", inject_context=True)
        def late(context):
            import time

            channel = context.get_channel()
            for number in range(20):
                channel.set("late", number)
                time.sleep(0.1)

    context = ExecutionContext.create(flow.graph, "late", channel_backend="redis", config=config)
    # What Graflow's own backend does with a group, for one task.
    queue = DistributedTaskQueue(redis_client=client, key_prefix=PREFIX)
    queue.enqueue(TaskSpec(executable=late, execution_context=context))
    key = f"graflow:channel:{context.session_id}:late"
    patience = time.monotonic() + 20
    while not client.exists(key):
        if time.monotonic() > patience:
            raise SystemExit("the late task did not start")
        time.sleep(0.01)


def main(kind):
    port = free_port()
    folder = tempfile.mkdtemp(prefix="seed-case-")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        client = redis.Redis(port=port, decode_responses=True)
        patience = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > patience:
                    raise
                time.sleep(0.02)
        config = {"redis_client": client, "key_prefix": PREFIX}
        workers = {"graflow": Graflows, "sidecar": Sidecars}[kind](
            f"redis://127.0.0.1:{port}/0", client
        )
        print(f"done: {dispatch(config)} of {TASKS}", flush=True)
        one_more(config, client)

        print("clean-up: Redis first", flush=True)
        began = time.monotonic()
        # A Redis on its way out answers late. That catches workers in the middle
        # of a read more often than chance would in a single run.
        server.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        client.close()
        time.sleep(0.05)
        server.terminate()
        server.send_signal(signal.SIGCONT)
        server.wait()
        time.sleep(1.0)  # whatever else it cleans up
        print("clean-up: the workers second", flush=True)
        stopping = time.monotonic()
        workers.stop()
        print(f"workers stopped after {time.monotonic() - stopping:.1f} s", flush=True)
        print(f"clean-up took {time.monotonic() - began:.1f} s", flush=True)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


main(sys.argv[1])
