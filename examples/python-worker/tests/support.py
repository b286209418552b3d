"""A worker process under test, spoken to by hand."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

ROOT = Path(__file__).resolve().parent.parent
# Far more than anything here takes, so that a busy machine fails no test.
PATIENCE = 30.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll an external condition until it holds; its value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE:.0f} s for {what}")


def environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """What a worker is started with."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}
    # It would let prints out before serve() can take them away.
    env.pop("PYTHONUNBUFFERED", None)
    return env


class Ended(AssertionError):
    """The worker's output has ended."""


class Worker:
    """One worker process; the test is the sidecar."""

    def __init__(
        self,
        argv: List[str],
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        greet: bool = True,
        limit: Optional[int] = None,
        process: Any = None,  # started already, with pipes
    ) -> None:
        self.process = process or subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            cwd=cwd,
            start_new_session=True,
        )
        self.noise: List[bytes] = []
        self.notifications: List[Dict[str, Any]] = []
        self.other: List[Dict[str, Any]] = []
        self._log: List[bytes] = []
        self._lines: "queue.Queue[Optional[bytes]]" = queue.Queue()
        self._next_id = 0
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.greeting: Dict[str, Any] = {}
        if greet:
            self.greeting = self.initialize(limit)

    # Sending.

    def initialize(self, limit: Optional[int] = None) -> Dict[str, Any]:
        params: Dict[str, Any] = {"protocolVersion": 1, "workerId": "w", "slot": 0}
        if limit is not None:
            params["limits"] = {"maxMessageBytes": limit}
        return self.call("initialize", params)

    def raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def notify(self, method: str, params: Any = None) -> None:
        self.raw(
            json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n"
        )

    def start(self, method: str, params: Any) -> int:
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        self.raw(json.dumps(message).encode() + b"\n")
        return self._next_id

    def call(self, method: str, params: Any = None) -> Dict[str, Any]:
        return self.answer(self.start(method, params))

    def begin(self, record: Dict[str, Any], **params: Any) -> int:
        delivery = f"run.{self._next_id + 1}"
        return self.start(
            "task/run", {"delivery": delivery, "record": record, "attempt": 1, **params}
        )

    def run(self, record: Dict[str, Any], **params: Any) -> Dict[str, Any]:
        """The result (not the error) of one task."""
        response = self.answer(self.begin(record, **params))
        assert "result" in response, response
        return response["result"]

    # Receiving.

    def answer(self, request_id: Any) -> Dict[str, Any]:
        """The response to a request; what comes before it is kept."""
        for number, message in enumerate(self.other):
            if message.get("id") == request_id:
                return self.other.pop(number)
        while True:
            message = self.receive(f"the answer to {request_id}")
            if "method" in message:
                self.notifications.append(message)
            elif message.get("id") == request_id:
                return message
            else:
                self.other.append(message)

    def notification(self, method: str) -> Dict[str, Any]:
        """The next notification of that method."""
        while True:
            for number, message in enumerate(self.notifications):
                if message["method"] == method:
                    return self.notifications.pop(number)
            message = self.receive(method)
            (self.notifications if "method" in message else self.other).append(message)

    def receive(self, what: str) -> Dict[str, Any]:
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                raise AssertionError(f"waited for {what}; log: {self.log()}") from None
            if line is None:
                raise Ended(f"the worker ended before {what}; log: {self.log()}")
            if line.startswith(b"{") and b'"jsonrpc"' in line:
                return json.loads(line)
            if line:
                self.noise.append(line)

    def rest(self) -> List[Dict[str, Any]]:
        """Everything until the end of its stdout."""
        messages = self.other
        while True:
            try:
                messages.append(self.receive("the end"))
            except Ended:
                return messages

    def log(self) -> str:
        return b"".join(self._log).decode("utf-8", "replace")

    def logged(self, text: str) -> None:
        until(lambda: text in self.log(), f"{text!r} in the log: {self.log()}")

    # Ending.

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def close(self) -> None:
        # Not only the worker: what its tasks left behind holds stderr open.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip(b"\n"))
        self._lines.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        while True:
            chunk = os.read(self.process.stderr.fileno(), 65536)
            if not chunk:
                return
            self._log.append(chunk)


class WorkerCase(unittest.TestCase):
    """Tests that start workers from a few lines of source."""

    def folder(self) -> Path:
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        return Path(held.name)

    def script(self, source: str) -> str:
        path = self.folder() / "worker.py"
        path.write_text(textwrap.dedent(source))
        return str(path)

    def worker(self, source: str, **options: Any) -> Worker:
        worker = Worker([sys.executable, self.script(source)], **options)
        self.addCleanup(worker.close)
        return worker

    def handler(self, body: str, serve: str = "handle", before: str = "", **options: Any) -> Worker:
        """A worker whose handler has this body."""
        source = "from graflow_sidecar import *\nimport os, sys, time, signal, threading\n"
        source += textwrap.dedent(before)
        source += "def handle(task):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        source += f"\nserve({serve})\n"
        return self.worker(source, **options)
