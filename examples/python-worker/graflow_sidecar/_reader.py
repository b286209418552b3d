"""Reads what the sidecar sends. The rules are in protocol/PROTOCOL.md."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _messages
from ._lines import ID_WINDOW, LineSplitter, TooLong
from ._server import Server, not_started
from ._task import Task

_CHUNK = 1 << 16
# After the end of stdin: how long running tasks may still finish by
# themselves, and when the process is ended at the latest.
_GRACE = 0.4
_LATEST = 0.9

# The scanner behind json.loads, without what that does around it.
# (typeshed does not list it.)
_scan: Callable[[str, int], Tuple[Any, int]] = getattr(json.JSONDecoder(), "scan_once")


class Reader:
    """The protocol's state, and the thread that owns it."""

    def __init__(self, server: Server, read_fd: int) -> None:
        self._server = server
        self._outbox = server.outbox
        self._fd = read_fd
        self._lines = LineSplitter(server.limit)
        self._greeted = False
        self._draining = False
        self._greeting = threading.Lock()
        self._ready = False
        self._signalled = False
        self._arrived: List[Task] = []

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="sidecar-reader", daemon=True).start()

    def _run(self) -> None:
        try:
            self._read()
        except Exception:
            # Without a reader nothing would ever end this process.
            traceback.print_exc()
            os._exit(70)

    def _read(self) -> None:
        signals = self._server.signals
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.register(signals.pipe, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if signals.pipe in ready and signals.stopped():
                self._drain()
            if self._fd not in ready:
                continue
            chunk = os.read(self._fd, _CHUNK)
            if not chunk:
                self._end()
                return
            for line in self._lines.feed(chunk):
                if line:
                    self._take(line)
            if self._arrived:
                arrived, self._arrived = self._arrived, []
                self._server.accept(arrived)

    def _take(self, line: Any) -> None:
        if line.__class__ is TooLong:
            self._refuse_long(line)
            return
        try:
            text = line.decode()
            message, end = _scan(text, 0)
            if end != len(text):
                message = json.loads(text)
        except StopIteration:
            self._take_unusual(line)
            return
        except (ValueError, RecursionError) as exc:
            self._refuse(line, exc)
            return
        try:
            method = message.get("method")
        except AttributeError:
            self._post(_messages.error("null", _messages.INVALID_REQUEST, "not an object"))
            return
        if method == "task/run" and self._greeted and "id" in message:
            number = message["id"]
            # An integer's text is its str(), but for 0, which may be -0.
            if number.__class__ is int and number:
                key = str(number)
                self._task(key, key, message)
                return
        self._dispatch(text, message)

    def _take_unusual(self, line: bytes) -> None:
        # Space before the message, or no message at all.
        if line.isspace():
            return
        try:
            text = line.decode()
            message = json.loads(text)
        except (ValueError, RecursionError) as exc:
            self._refuse(line, exc)
            return
        if isinstance(message, dict):
            self._dispatch(text, message)
        else:
            self._post(_messages.error("null", _messages.INVALID_REQUEST, "not an object"))

    def _dispatch(self, text: str, message: Dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            self._server.requests.answer(message)
            return
        request_id = _messages.find_id(text) if "id" in message else None
        if method == "task/run" and request_id is not None:
            if self._greeted:
                self._task(request_id, _messages.key_of(message["id"]), message)
            else:
                self._error(request_id, _messages.INVALID_REQUEST, "initialize comes first")
        elif method == "ping":
            if request_id is not None:
                self._post(_messages.result(request_id, "{}"))
        elif method == "$/cancelRequest":
            self._cancel(message.get("params"))
        elif method == "shutdown":
            self._server.told = True
            self._shutdown()
            if request_id is not None:
                self._post(_messages.result(request_id, "{}"))
        elif method == "initialize" and request_id is not None:
            self._initialize(request_id, message.get("params"))
        elif request_id is not None:
            self._error(request_id, _messages.METHOD_NOT_FOUND, f"no method {method}")

    def _initialize(self, request_id: str, params: Any) -> None:
        if self._greeted:
            self._error(request_id, _messages.INVALID_REQUEST, "initialize came before")
            return
        offered = params.get("protocolVersion") if isinstance(params, dict) else None
        if not isinstance(offered, int) or offered < _messages.PROTOCOL_VERSION:
            text = f"this worker speaks version {_messages.PROTOCOL_VERSION}, not {offered}"
            self._error(request_id, _messages.INVALID_PARAMS, text)
            return
        limits = params.get("limits")
        limit = limits.get("maxMessageBytes") if isinstance(limits, dict) else None
        if isinstance(limit, int):
            limit = max(limit, _messages.LEAST_MAX_MESSAGE_BYTES)
            self._server.limit = self._lines.limit = self._server.requests.limit = limit
        self._greeted = True
        self._server.greeting.put(request_id)

    def _task(self, request_id: str, key: str, message: Dict[str, Any]) -> None:
        if self._draining:
            self._post(not_started(request_id))
            return
        try:
            params = message["params"]
            task = Task(request_id, key, params, self._outbox, self._server.requests)
            if task.record.__class__ is not dict or task.delivery.__class__ is not str:
                raise TypeError("record must be an object and delivery a string")
        except (KeyError, TypeError, AttributeError) as exc:
            text = f"task/run: {type(exc).__name__}: {exc}"
            self._error(request_id, _messages.INVALID_PARAMS, text)
            return
        self._arrived.append(task)

    def _cancel(self, params: Any) -> None:
        if isinstance(params, dict) and "id" in params:
            # What this chunk brought must be known before it can be cancelled.
            arrived, self._arrived = self._arrived, []
            self._server.accept(arrived)
            self._server.cancel(_messages.key_of(params["id"]))

    def greet(self, line: str) -> None:
        """Send the answer to initialize; called by the main thread."""
        with self._greeting:
            self._outbox.post(line)
            self._ready = True
            if self._signalled:
                self._outbox.post(_messages.notification("$/draining"))
        self._outbox.flush()

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        with self._greeting:
            # Nothing may come before the answer to initialize.
            self._signalled = True
            if self._ready:
                self._post(_messages.notification("$/draining"))
        self._server.hand_back()

    def _shutdown(self) -> None:
        self._draining = True
        arrived, self._arrived = self._arrived, []
        for task in arrived:
            self._post(not_started(task._id))
        self._server.greeting.put(None)
        self._server.stop()

    def _end(self) -> None:
        # The answers have no reader any more, or soon will have none: what still
        # runs has a moment to finish, is then interrupted, so that its
        # "finally" runs, and is cut off after that.
        tail = self._lines.tail()
        if tail:
            print(
                f"sidecar protocol: input ended inside a message: {tail[:200]!r}", file=sys.stderr
            )
        start = time.monotonic()
        self._server.requests.end("the sidecar is gone")
        self._shutdown()
        if not self._server.ended.wait(_GRACE):
            self._server.cancel_all()
        self._server.ended.wait(max(0.0, start + _LATEST - time.monotonic()))
        # Also when an exit handler or a thread of the task's holds the exit up.
        time.sleep(max(0.0, start + _LATEST - time.monotonic()))
        os._exit(0 if self._server.ended.is_set() else 1)

    def _refuse_long(self, line: TooLong) -> None:
        text = f"a message of {line.length} bytes is over the limit of {self._lines.limit}"
        prefix = line.prefix.decode("utf-8", "replace")
        request_id = _messages.find_id(prefix)
        if self._lost(request_id, prefix, text):
            return
        self._refusal(request_id, _messages.INVALID_REQUEST, text)

    def _refuse(self, line: bytes, exc: Exception) -> None:
        prefix = line[:ID_WINDOW].decode("utf-8", "replace")
        request_id = _messages.find_id(prefix)
        text = f"not read as JSON by Python: {type(exc).__name__}: {exc}"
        if self._lost(request_id, prefix, f"the answer is {text}"):
            return
        broken = isinstance(exc, (json.JSONDecodeError, UnicodeDecodeError))
        if request_id is not None and not broken and '"task/run"' in prefix:
            # JSON, but beyond what Python reads (nesting, an integer of 5,000
            # digits), in this worker and in every other: the task has failed.
            self._post(_messages.failed(request_id, type(exc).__name__, f"the record is {text}"))
        else:
            self._refusal(request_id, _messages.PARSE_ERROR, f"a message is {text}")

    def _lost(self, request_id: Optional[str], prefix: str, text: str) -> bool:
        # An answer that cannot be read, one that nests as deep as Python's own
        # stack say: the task that waits for it is told, and the sidecar is not, for its own
        # request of the same id is another one.
        if request_id is None or not _messages.is_answer(prefix):
            return False
        if request_id.isdigit():
            problem = {"code": _messages.INVALID_PARAMS, "message": text}
            self._server.requests.answer({"id": int(request_id), "error": problem})
        return True

    def _refusal(self, request_id: Optional[str], code: int, text: str) -> None:
        print(f"sidecar protocol: {text}", file=sys.stderr)
        self._error(request_id or "null", code, text)

    def _error(self, request_id: str, code: int, text: str) -> None:
        self._post(_messages.error(request_id, code, text))

    def _post(self, line: str) -> None:
        self._outbox.post(line)
        self._outbox.kick()
