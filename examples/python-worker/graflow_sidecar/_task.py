"""What a handler is given, and what it may raise."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional

from . import _channel, _messages

if TYPE_CHECKING:
    from ._outbox import Outbox
    from ._requests import Requests

# What of a traceback is sent; the end is the part that tells.
_MAX_STACK = 16 << 10
_waits_lock = threading.Lock()
# What of an error's text is sent when all of it is too long for a message.
_SHORT_MESSAGE = 64 << 10


def after_fork() -> None:
    """In a forked child: the lock may be held by a thread that it does not have."""
    global _waits_lock
    _waits_lock = threading.Lock()


class TaskError(Exception):
    """Raise it to say exactly how a task failed.

    retryable=True asks the sidecar to deliver the record again after a delay
    instead of reporting a failure. kind is the error's type, the name of the
    exception's class by default.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: Optional[str] = None,
        retryable: bool = False,
        stack: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.kind: str = kind or type(self).__name__
        self.retryable: bool = retryable
        self.stack: Optional[str] = stack


class StartError(Exception):
    """The worker cannot work at all: the text is what the sidecar's user reads."""


class TaskCancelled(BaseException):
    """Raised inside a task that the sidecar gives up.

    No Exception, so that "except Exception" does not hold on to the task;
    "finally" runs as always.
    """


class Task:
    """One delivery of one record. For the handler's own thread."""

    __slots__ = (
        "record",
        "delivery",
        "attempt",
        "deadline",
        "traceparent",
        "cancelled",
        "_id",
        "_key",
        "_thread",
        "_outbox",
        "_requests",
        "_stop",
        "_waits",
        "inputs",
    )

    def __init__(
        self,
        request_id: str,
        key: str,
        params: Dict[str, Any],
        outbox: "Outbox",
        requests: "Requests",
    ) -> None:
        #: The record as it was pushed, decoded from JSON.
        self.record: Dict[str, Any] = params["record"]
        #: Identifies this delivery of the record.
        self.delivery: str = params["delivery"]
        #: 1 for a record that was never lost to a crash.
        self.attempt: int = params.get("attempt", 1)
        deadline = params.get("deadlineUnixMs")
        #: When the task must have ended, as time.time() counts; None: never.
        self.deadline: Optional[float] = deadline / 1000 if deadline else None
        meta = params.get("_meta")
        #: W3C trace context of the record's producer, or None.
        self.traceparent: Optional[str] = meta.get("traceparent") if meta else None
        #: The inputs that serve() was told to want, as far as they were found.
        self.inputs: Dict[str, Any] = _inputs(params.get("inputs"))
        #: True once the sidecar has given the task up.
        self.cancelled: bool = False
        self._id = request_id
        self._key = key
        self._thread = 0
        self._outbox = outbox
        self._requests = requests
        self._stop: Optional[Callable[[], Any]] = None  # cancels a coroutine
        self._waits = 0

    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, never below 0; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.time())

    @property
    def channel(self) -> _channel.Channel:
        """The Graflow channel of the session that the record belongs to."""
        return _channel.Channel(self)

    def enqueue(self, record: Dict[str, Any]) -> None:
        """Add a record to the queue: at least a task_id.

        It runs in this task's session and graph unless it names others.
        """
        member, text = _channel.encode(record)
        if member != "value":
            raise ValueError("a record is strict JSON, with integers up to 2**53")
        self._ask("task/enqueue", f',"record":{text}')

    def _ask(self, method: str, params: str) -> Any:
        return self._requests.ask(self, method, params)

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write a line to the sidecar's log; level is debug, info, warn or error."""
        params: Dict[str, Any] = {"level": level, "message": message, "delivery": self.delivery}
        if fields:
            params["fields"] = fields
        self._outbox.send(_messages.notification("log", params))

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """Say how much is done, from 0 to 1. Puts off the idle timeout, not the deadline."""
        params: Dict[str, Any] = {"delivery": self.delivery}
        if fraction is not None:
            params["fraction"] = fraction
        if message is not None:
            params["message"] = message
        self._outbox.send(_messages.notification("$/progress", params))

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a time in which the task only waits for other tasks.

        The sidecar may run another task in an extra slot meanwhile. Several threads
        of one task may do so at once: the sidecar hears of the first and the last.
        """
        params = {"delivery": self.delivery}
        with _waits_lock:
            self._waits += 1
            if self._waits == 1:
                self._outbox.send(_messages.notification("$/waiting", params))
        try:
            yield
        finally:
            with _waits_lock:
                self._waits -= 1
                if self._waits == 0:
                    self._outbox.send(_messages.notification("$/resumed", params))


def _inputs(members: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    if not members:
        return {}
    found = {}
    for name, member in members.items():
        try:
            found[name] = _channel.decode(member)
        except (ValueError, RecursionError):
            found[name] = None  # text that is no JSON, as Graflow's own channel has it
    return found


def answer(task: Task, value: Any, limit: int) -> str:
    """The response for a handler that returned value."""
    try:
        line = _messages.succeeded(task._id, value)
    except (TypeError, ValueError, RecursionError) as exc:
        message = f"the result cannot be sent as JSON: {exc}"
        return _messages.failed(task._id, type(exc).__name__, message)
    size = len(line) - 1
    if size > limit:
        message = (
            f"the result takes {size} bytes, more than the {limit} bytes that a message may have"
        )
        return _messages.failed(task._id, "ResultTooLarge", message)
    return line


def failure(task: Task, exc: BaseException, limit: int) -> str:
    """The response for a handler that raised exc."""
    if isinstance(exc, TaskCancelled) or task.cancelled:
        return _messages.error(task._id, _messages.CANCELLED, "cancelled")
    if isinstance(exc, TaskError):
        stack = stack_of(exc) if exc.stack is None else exc.stack
        line = _messages.failed(task._id, exc.kind, str(exc), stack, exc.retryable)
    else:
        line = _messages.failed(task._id, type(exc).__name__, text_of(exc), stack_of(exc))
    if len(line) - 1 > limit:
        message = text_of(exc)[: min(_SHORT_MESSAGE, limit // 16)] + " … (cut)"
        line = _messages.failed(task._id, type(exc).__name__, message)
    return line


def text_of(exc: BaseException) -> str:
    """str(exc), or for what is no ordinary error its name as well.

    str() of a SystemExit is a bare number; of a KeyboardInterrupt or a MemoryError,
    nothing: the name stands for it.
    """
    try:
        text = str(exc)
    except Exception as broken:  # a __str__ that raises must not cost the answer
        return f"{type(exc).__name__} (whose text cannot be had: {type(broken).__name__})"
    if isinstance(exc, SystemExit):
        return f"the task called sys.exit({text})"
    if not isinstance(exc, Exception):
        return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return text or type(exc).__name__


def stack_of(exc: BaseException) -> str:
    """The traceback, its end if it is long."""
    try:
        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    except Exception:
        return ""
    return text if len(text) <= _MAX_STACK else "…\n" + text[-_MAX_STACK:]
