"""Real Graflow, a real Redis, and the adapter between them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional

from tests.support import PATIENCE, Worker, WorkerCase, until
from tests.forkserver import ForkServer

try:
    import graflow  # noqa: F401
    import redis
except ImportError as missing:
    raise RuntimeError(
        f"these tests need Graflow: {sys.executable} -m pip install graflow redis"
    ) from missing

# Whether the adapter is started by itself or forked: every test holds for both.
FORKED = os.environ.get("ADAPTER_START", "exec") == "fork"

PRELUDE = """
import json, os, sys
import redis
from graflow import RetryPolicy, task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup
from graflow.queue.base import TaskSpec
from graflow.queue.distributed import DistributedTaskQueue

REDIS, THREADS = CoordinationBackend.REDIS, CoordinationBackend.THREADING
PREFIX = os.environ["REDIS_KEY_PREFIX"]
text = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
# Graflow 0.1.9 cannot make its graph store from a text client of redis-py 8.
binary = redis.Redis.from_url(os.environ["REDIS_URL"])

def context_of(flow):
    config = {"redis_client": text, "key_prefix": PREFIX}
    return ExecutionContext(flow.graph, channel_backend="redis", config=config)

def push(context, *names, group=None):
    queue = DistributedTaskQueue(redis_client=binary, key_prefix=PREFIX)
    for name in names:
        node = context.graph.get_node(name)
        queue.enqueue(TaskSpec(executable=node, execution_context=context, group_id=group))
    print(json.dumps({"session": context.session_id}))

"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A redis-server of our own on a free port."""

    def __init__(self, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError(
                "these tests need redis-server on PATH: apt-get install redis-server"
            )
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        self._argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._argv += ["--dir", self._folder.name, *options]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)

    def ready(self, **options: Any) -> redis.Redis:
        client = redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, **options)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        until(answers, "Redis")
        return client

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()


class EngineCase(WorkerCase):
    """Tests with a Redis for the class and a prefix for each test."""

    server: RedisServer
    client: redis.Redis

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = RedisServer()
        cls.addClassCleanup(cls.server.close)
        cls.client = cls.server.ready()
        cls.addClassCleanup(cls.client.close)

    def setUp(self) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:8]}"
        self.here = self.folder()
        self.url = f"redis://127.0.0.1:{self.server.port}/0"

    def environment(self) -> Dict[str, str]:
        return {
            "REDIS_URL": self.url,
            "REDIS_KEY_PREFIX": self.prefix,
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }

    def adapter(self, **extra: str) -> Worker:
        """The adapter, with the test's folder as its working directory."""
        if FORKED:
            worker = self.fork_server(**extra).worker(SIDECAR_PROCESS_ID="w-0")
        else:
            worker = Worker(
                [sys.executable, "-m", "graflow_sidecar.graflow"],
                env={**self.environment(), **extra},
                cwd=str(self.here),
            )
        self.addCleanup(worker.close)
        self.assertIn("result", worker.greeting, worker.log())
        return worker

    def fork_server(self, before: str = "", **extra: str) -> ForkServer:
        """The adapter's fork server, in the test's folder."""
        source = f"import os, sys\n{before}\n"
        source += "from graflow_sidecar.graflow import fork_server; fork_server(int(sys.argv.pop(1)))"
        fork_server = ForkServer(
            [sys.executable, "-c", source],
            env={**self.environment(), **extra},
            cwd=str(self.here),
        )
        self.addCleanup(fork_server.close)
        self.assertEqual(fork_server.word.get("problem"), "")
        return fork_server

    def module(self, name: str, source: str) -> None:
        """A file in the working directory of producer and adapter."""
        (self.here / f"{name}.py").write_text(PRELUDE + textwrap.dedent(source))

    def producer(self, source: str) -> "subprocess.Popen[str]":
        """Start a process that defines tasks in __main__ and pushes them."""
        path = self.folder() / "producer.py"
        path.write_text(PRELUDE + textwrap.dedent(source))
        environment = {**os.environ, **self.environment()}
        environment["PYTHONPATH"] += f":{self.here}"
        process = subprocess.Popen(
            [sys.executable, str(path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def output(self, process: "subprocess.Popen[str]") -> Dict[str, Any]:
        """What a producer printed last, as JSON."""
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        return json.loads(out.splitlines()[-1])

    def records(self, source: str) -> List[Dict[str, Any]]:
        """Have a producer push; the records on the queue, taken off it."""
        self.session = self.output(self.producer(source))["session"]
        return self.taken()

    def taken(self) -> List[Dict[str, Any]]:
        queue = f"{self.prefix}:queue"
        found = [json.loads(item) for item in self.client.lrange(queue, 0, -1)]
        self.client.delete(queue)
        return found

    def channel(self, key: str, session: Optional[str] = None) -> Any:
        """A value in the channel; a missing one is a failure."""
        text = self.client.get(f"graflow:channel:{session or self.session}:{key}")
        self.assertIsNotNone(text, f"{key} is not in the channel")
        return json.loads(text)

    def succeed(self, worker: Worker, record: Dict[str, Any]) -> None:
        result = worker.run(record)
        self.assertEqual(result, {"status": "succeeded"}, worker.log())


class Sidecar:
    """As much of the sidecar as a nested group needs: claims, runs, reports."""

    def __init__(self, case: EngineCase, workers: List[Worker]) -> None:
        from graflow.coordination.redis_coordinator import record_task_completion

        self._report = record_task_completion
        self._client = case.client
        self._prefix = case.prefix
        self._stopping = False
        self.errors: List[str] = []
        self._threads = [threading.Thread(target=self._drive, args=(w,)) for w in workers]
        for thread in self._threads:
            thread.start()
        case.addCleanup(self.stop)

    def stop(self) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE)

    def _drive(self, worker: Worker) -> None:
        while not self._stopping:
            item = self._client.blpop([f"{self._prefix}:queue"], timeout=1)
            if item is None:
                continue
            record = json.loads(item[1])
            result = worker.run(record)
            failed = result["status"] == "failed"
            message = result["error"]["message"] if failed else None
            if message:
                self.errors.append(message)
            if record["group_id"]:
                self._report(
                    self._client,
                    self._prefix,
                    record["task_id"],
                    record["group_id"],
                    not failed,
                    message,
                )
