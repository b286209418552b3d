"""What tests of remote tasks share: the test is the worker elsewhere."""

import json
import logging
import threading
from typing import Any, Callable, Dict, List

import redis
from graflow import workflow
from graflow.coordination.redis_coordinator import record_task_completion
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.exceptions import ParallelGroupError

from graflow_sidecar import remote_task
from tests.engine.support import EngineCase
from tests.support import PATIENCE


class Elsewhere:
    """A worker in no particular language: what a sidecar does with one, in short."""

    def __init__(
        self, case: EngineCase, prefix: str, does: Callable[[Dict[str, Any]], Any]
    ) -> None:
        self._prefix, self._does = prefix, does
        self._client = redis.Redis.from_url(case.url, decode_responses=True)
        self.records: List[Dict[str, Any]] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        case.addCleanup(self.stop)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._client.rpush(f"{self._prefix}:queue", "stop")
            self._thread.join(PATIENCE)
        self._client.close()

    def key(self, record: Dict[str, Any], name: str) -> str:
        return f"graflow:channel:{record['session_id']}:{name}"

    def left(self, record: Dict[str, Any], what: str) -> Any:
        """What the producer left for a task."""
        text = self._client.get(self.key(record, f"{record['task_id']}.__{what}__"))
        return text and json.loads(text)

    def _work(self) -> None:
        while True:
            _, item = self._client.blpop([f"{self._prefix}:queue"])
            if item == "stop":
                return
            record = json.loads(item)
            self.records.append(record)
            error = None
            try:
                value = self._does(record)
                if value is not None:
                    key = self.key(record, f"{record['task_id']}.__result__")
                    self._client.set(key, json.dumps(value))
            except Exception as exc:
                error = str(exc)
            args = record["task_id"], record["group_id"], error is None, error
            record_task_completion(self._client, self._prefix, *args)


class RemoteCase(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        logging.getLogger("graflow").setLevel(logging.CRITICAL)
        self.addCleanup(logging.getLogger("graflow").setLevel, logging.NOTSET)

    def context(self, flow: Any, start: str, **options: Any) -> ExecutionContext:
        client = redis.Redis.from_url(self.url, decode_responses=True)
        self.addCleanup(client.close)
        config = {"redis_client": client, "key_prefix": self.prefix}
        return ExecutionContext.create(
            flow.graph, start, channel_backend="redis", config=config, **options
        )

    def elsewhere(self, does: Callable[[Dict[str, Any]], Any], prefix: str = "") -> Elsewhere:
        return Elsewhere(self, prefix or self.prefix, does)

    def execute(self, context: ExecutionContext) -> Any:
        return WorkflowEngine().execute(context)

    def nothing_left(self) -> None:
        for pattern in ("queue", "barrier*", "completions*"):
            self.assertEqual(self.client.keys(f"{self.prefix}:{pattern}"), [])

    def config(self) -> Dict[str, Any]:
        return {"redis_client": self.client, "key_prefix": self.prefix}

    def misplaced(self) -> None:
        with workflow("w") as flow:
            remote_task("far", inputs=["x"], params={"y": 1})
        with self.assertRaises(ParallelGroupError) as caught:
            self.execute(self.context(flow, "far"))
        self.assertIn(
            f"remote task 'far' was given to a Python worker of Graflow, and its function is in"
            f" another language: every worker of the queue '{self.prefix}:queue' must be a sidecar"
            f" that has a worker for it, as in: sidecar run --worker 'far=COMMAND'",
            str(caught.exception),
        )
