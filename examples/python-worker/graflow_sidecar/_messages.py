"""Builds and takes apart the protocol's messages (JSON-RPC 2.0, one a line)."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

PROTOCOL_VERSION = 1
DEFAULT_MAX_MESSAGE_BYTES = 16 << 20
LEAST_MAX_MESSAGE_BYTES = 4096

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CANCELLED = -32800
NOT_STARTED = -32001
DELIVERY_ENDED = -32002

_encode_strict = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_encode_python = json.JSONEncoder(separators=(",", ":")).encode
_long_number = re.compile(r"[0-9]{16}").search
_LARGEST_INTEGER = 1 << 53
# Messages nest at most 1000 deep, and two levels are around the value.
_DEEPEST = 998


def result(request_id: str, raw: str) -> str:
    """A response; request_id and raw are JSON text."""
    return f'{{"jsonrpc":"2.0","id":{request_id},"result":{raw}}}\n'


def error(request_id: str, code: int, message: str) -> str:
    """An error response."""
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},'
        f'"error":{{"code":{code},"message":{_encode_strict(message)}}}}}\n'
    )


def notification(method: str, params: Optional[Dict[str, Any]] = None) -> str:
    """A notification."""
    if params is None:
        return f'{{"jsonrpc":"2.0","method":"{method}"}}\n'
    return f'{{"jsonrpc":"2.0","method":"{method}","params":{_encode_strict(params)}}}\n'


def succeeded(request_id: str, value: Any) -> str:
    """The answer to a task/run that went well.

    Raises TypeError or ValueError for a value that JSON has no form for.
    """
    if value is None:
        return f'{{"jsonrpc":"2.0","id":{request_id},"result":{{"status":"succeeded"}}}}\n'
    member, text = encode_value(value)
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},'
        f'"result":{{"status":"succeeded","{member}":{text}}}}}\n'
    )


def failed(
    request_id: str, kind: str, message: str, stack: str = "", retryable: bool = False
) -> str:
    """The answer to a task/run that failed."""
    members = {"type": kind, "message": message, "stack": stack, "retryable": retryable}
    if not stack:
        del members["stack"]
    return result(request_id, f'{{"status":"failed","error":{_encode_strict(members)}}}')


def encode_value(value: Any) -> Tuple[str, str]:
    """A task's value as the member to send it in and that member's JSON text.

    Python's NaN and Infinity are no JSON, integers beyond 2**53 change in
    readers that hold numbers as doubles, and readers need not follow deep
    nesting: such a value travels as a string that holds its Python JSON text.
    """
    try:
        text = _encode_strict(value)
    except ValueError:
        # NaN or Infinity; anything else that is wrong is raised again here.
        return "valueText", _encode_strict(_encode_python(value))
    if len(text) >= 16 and _long_number(text) and _has_big_integer(value):
        return "valueText", _encode_strict(text)
    brackets = text.count("[") + text.count("{") if len(text) > 2 * _DEEPEST else 0
    if brackets > _DEEPEST and _depth(value) > _DEEPEST:
        return "valueText", _encode_strict(text)
    return "value", text


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        members: List[Any] = []
        containers = False
        for item in level:
            if isinstance(item, dict):
                members.extend(item.values())
                containers = True
            elif isinstance(item, (list, tuple)):
                members.extend(item)
                containers = True
        depth += containers
        level = members
    return depth


def _has_big_integer(value: Any) -> bool:
    # The search above also finds long fractions and strings of digits.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, int):
            if abs(item) > _LARGEST_INTEGER:
                return True
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
    return False


def key_of(request_id: Any) -> str:
    """What tells requests apart: the same for every spelling of an id."""
    return str(request_id) if request_id.__class__ is int else _encode_strict(request_id)


_SPACE = " \t\r\n"
# CPython's and PyPy's own; typeshed does not list it.
_scan_string: Callable[[str, int], Tuple[str, int]] = getattr(json.decoder, "scanstring")


def is_answer(prefix: str) -> bool:
    """Whether the first bytes of a message are those of a response."""
    found = _role(prefix)
    return found is not None and found.group(1) != "method"


_role = re.compile(r'"(method|result|error)"\s*:').search


def find_id(text: str) -> Optional[str]:
    """The "id" of a message as JSON text, exactly as it stands there.

    Works on whole messages and on the first bytes of a broken or long one;
    None if the id is not among them.
    """
    decoder = json.JSONDecoder()
    try:
        at = _skip(text, 0)
        if text[at] != "{":
            return None
        at = _skip(text, at + 1)
        while text[at] == '"':
            name, at = _scan_string(text, at + 1)
            at = _skip(text, at)
            if text[at] != ":":
                return None
            start = _skip(text, at + 1)
            _, at = decoder.raw_decode(text, start)
            # A number at the very end may go on after it.
            following = text[_skip(text, at)]
            if name == "id":
                return text[start:at]
            if following != ",":
                return None
            at = _skip(text, _skip(text, at) + 1)
    except (IndexError, ValueError, RecursionError):
        pass
    return None


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
