"""The Graflow channel of a task's session, reached through the sidecar."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from . import _messages

if TYPE_CHECKING:
    from ._task import Task


class Channel:
    """What graflow.channels.base.Channel is, for a worker without Redis.

    The result of task x is the value of "x.__result__". A method waits while
    Redis is away, raises RequestError where the sidecar refuses, and may be
    called from any thread of the task, until it is over. In a coroutine use
    asyncio.to_thread.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or default where there is none, or no JSON."""
        return _decoded(self._ask("channel/get", key), default)

    def get_many(self, keys: Iterable[str]) -> Dict[str, Any]:
        """The values of several keys at the same moment; absent ones are left out."""
        names = list(keys)
        result = self._task._ask("channel/get", f',"keys":{_text(names)}')
        found: Dict[str, Any] = {}
        for name, value in zip(names, result["values"]):
            if value["found"]:
                found[name] = _decoded(value, None)
        return found

    def set(self, key: str, value: Any, ttl: Optional[float] = None) -> None:
        """Write a value; ttl is in seconds."""
        self._ask("channel/set", key, _value(value) + _ttl(ttl))

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        return bool(self._ask("channel/delete", key)["deleted"])

    def exists(self, key: str) -> bool:
        """Whether a key is there."""
        return bool(self._ask("channel/exists", key)["exists"])

    def keys(self) -> List[str]:
        """All keys of the session, those of locks ("lock:…") too."""
        return list(self._task._ask("channel/keys", "")["keys"])

    def append(self, key: str, value: Any, ttl: Optional[float] = None) -> int:
        """Add a value at the end of a list; the list's length."""
        return int(self._ask("channel/append", key, _value(value) + _ttl(ttl))["length"])

    def prepend(self, key: str, value: Any, ttl: Optional[float] = None) -> int:
        """Add a value at the front of a list; the list's length."""
        return int(self._ask("channel/prepend", key, _value(value) + _ttl(ttl))["length"])

    def atomic_add(self, key: str, amount: Union[int, float] = 1) -> Union[int, float]:
        """Add to a number, or to 0, in one step; the sum."""
        answer = self._ask("channel/add", key, f',"amount":{_text(amount)}')
        total = _decoded(answer, None)
        # A whole number is an int, as with Graflow.
        return int(total) if total == int(total) else total

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float = 10.0) -> Iterator[None]:
        """Hold a lock that also excludes Graflow's own channel.lock.

        Waits up to timeout seconds for it and raises TimeoutError then; it is free
        again at the end of the block, of the task, or timeout seconds after it was
        taken, whichever comes first.
        """
        answer = self._ask("channel/lock", key, f',"timeoutMs":{_milliseconds(timeout)}')
        token = answer["token"]
        if token is None:
            raise TimeoutError(f"Could not acquire lock for key '{key}' within {timeout}s")
        try:
            yield
        finally:
            self._ask("channel/unlock", key, f',"token":{_text(token)}')

    def _ask(self, method: str, key: str, more: str = "") -> Any:
        return self._task._ask(method, f',"key":{_text(key)}{more}')


def _text(value: Any) -> str:
    return _messages._encode_strict(value)


def _value(value: Any) -> str:
    member, text = encode(value)
    return f',"{member}":{text}'


def encode(value: Any) -> Tuple[str, str]:
    """A value's member and text, as RedisChannel writes it: with default=str."""
    try:
        return _messages.encode_value(value)
    except TypeError:
        return _messages.encode_value(json.loads(json.dumps(value, default=str)))


def decode(answer: Dict[str, Any]) -> Any:
    """The value of a member value or valueText, as json.loads has it."""
    if "value" in answer:
        return answer["value"]
    return json.loads(answer["valueText"])


def _decoded(answer: Dict[str, Any], default: Any) -> Any:
    if not answer.get("found", True):
        return default
    try:
        return decode(answer)
    except json.JSONDecodeError:
        return default  # as Graflow's own channel has it


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _ttl(seconds: Optional[float]) -> str:
    return "" if seconds is None else f',"ttlMs":{_milliseconds(seconds)}'
