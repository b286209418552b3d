"""What a task asks of the sidecar, and the answers."""

from __future__ import annotations

import _thread
import itertools
from typing import TYPE_CHECKING, Any, Dict, Optional

from . import _messages
from ._task import TaskCancelled, TaskError

if TYPE_CHECKING:
    from ._outbox import Outbox

# How long a task waits for an answer before it looks around. A cancel is raised
# in the main thread by a signal, which ends the wait at once; in other threads
# only between two instructions of Python, of which a wait is a single one.
_LOOK = 0.1


class RequestError(TaskError):
    """The sidecar has refused a request; code is the protocol's (PROTOCOL.md).

    -32602: the key holds another kind of value; -32002: the task is over;
    -32601: there are no channels here. -32603 is a failure of Redis that does
    not pass: a task that does not catch it is delivered again later.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message, retryable=code == _messages.INTERNAL_ERROR)
        self.code = code


class _Waiting:
    """A request without an answer: the lock is released when the answer is there."""

    __slots__ = ("arrived", "answer")

    def __init__(self, arrived: _thread.LockType) -> None:
        self.arrived = arrived
        self.answer: Dict[str, Any] = {}


class Requests:
    """Requests that wait for an answer. Any thread may ask; the reader answers.

    Neither waits for the other: the reader releases a lock that only the asking
    thread waits for.
    """

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self._numbers = itertools.count(1)
        self._waiting: Dict[int, _Waiting] = {}
        self._over: Optional[str] = None
        self.limit = _messages.DEFAULT_MAX_MESSAGE_BYTES

    def ask(self, task: Any, method: str, params: str) -> Any:
        """Send a request about a task and wait for its result.

        params is JSON text: members after the delivery, with a comma before each.
        """
        number = next(self._numbers)
        delivery = _messages.encode_value(task.delivery)[1]
        line = (
            f'{{"jsonrpc":"2.0","id":{number},"method":"{method}",'
            f'"params":{{"delivery":{delivery}{params}}}}}\n'
        )
        size = len(line) - 1
        if size > self.limit:
            raise RequestError(
                _messages.INVALID_PARAMS,
                f"the request takes {size} bytes, more than the {self.limit} bytes"
                " that a message may have",
            )
        arrived = _thread.allocate_lock()
        arrived.acquire()
        waiting = _Waiting(arrived)
        self._waiting[number] = waiting
        try:
            if self._over is None:
                self._outbox.send(line)
            while not arrived.acquire(timeout=_LOOK):
                if self._over is not None:
                    raise RequestError(_messages.DELIVERY_ENDED, self._over)
                if task.cancelled:
                    raise TaskCancelled
        finally:
            self._waiting.pop(number, None)
        problem = waiting.answer.get("error")
        if problem is not None:
            raise RequestError(problem["code"], problem["message"])
        return waiting.answer["result"]

    def answer(self, message: Dict[str, Any]) -> None:
        """Hand an answer to the thread that waits for it; a late answer is dropped."""
        number = message.get("id")
        if type(number) is not int:  # True is an int, and no id
            return
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.answer = message
            waiting.arrived.release()

    def end(self, why: str) -> None:
        """From now on nothing is answered."""
        self._over = why
