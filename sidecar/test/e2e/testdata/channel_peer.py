"""Graflow's own RedisChannel, as the other side of a worker's channel methods.

Usage: channel_peer.py write|compare|read|lock SESSION …

write SESSION N SEED      sets py_0 … py_(N-1) to generated values
compare SESSION N PREFIX  says where PREFIX_i is not what py_i is, type for type
read SESSION N            says what gen_i is, as JSON of its repr, and sets back_i to it
lock SESSION KEY N        counts KEY up N times, slowly, under its lock
"""

import datetime
import decimal
import json
import math
import random
import sys
import uuid

from flow import HOST, PORT, client, finish
from graflow.channels.redis_channel import RedisChannel

SCALARS = [
    None, True, False, 0, 1, -1, 1.0, -0.0, 0.1, 1e300, 5e-324, 1e16, 2**53, 2**53 + 1, -(2**53) - 1,
    2**64, 10**40, float("nan"), float("inf"), float("-inf"), "", "a", "NaN", "1", "ä", "\U0001f600",
    "\ud800", "\x00\x1f\u2028", "\\\"/\b\n", "x" * 5000, "<&>", "valueText", "{\"jsonrpc\":\"2.0\"}",
]  # fmt: skip
# What RedisChannel writes with default=str.
OTHERS = [
    datetime.datetime(2026, 11, 24, 7, 15), decimal.Decimal("1.50"), uuid.UUID(int=7), 1 + 2j, b"bytes", {1, 1},
]  # fmt: skip


def value(r, depth=0):
    kind = r.random()
    if depth < 5 and kind < 0.2:
        return [value(r, depth + 1) for _ in range(r.randrange(5))]
    if depth < 5 and kind < 0.4:
        return {key(r): value(r, depth + 1) for _ in range(r.randrange(5))}
    if depth < 5 and kind < 0.45:
        return tuple(value(r, depth + 1) for _ in range(r.randrange(3)))
    if kind < 0.5:
        return r.choice(OTHERS)
    if kind < 0.6:
        return r.uniform(-1, 1) * 10 ** r.randrange(-320, 300)
    if kind < 0.7:
        return r.randrange(-(2**70), 2**70)
    if kind < 0.75:
        return "".join(chr(r.randrange(1, 0x3000)) for _ in range(r.randrange(20)))
    return r.choice(SCALARS)


def key(r):
    return r.choice(["a", "b", "value", "", "ключ", 1, 1.5, True, None, "x" * r.randrange(50)])


def deep(levels):
    nested = 1.0
    for _ in range(levels):
        nested = [nested]
    return nested


def same(a, b):
    """Equal, type for type: 1 is not 1.0, and NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or a != a and b != b
    return a == b


sys.setrecursionlimit(5000)  # for values that nest deep


def main():
    command, session = sys.argv[1:3]
    channel = RedisChannel(session, redis_client=client(), host=HOST, port=PORT)
    rest = sys.argv[3:]
    if command == "write":
        r = random.Random(int(rest[1]))
        values = SCALARS + OTHERS + [deep(500), deep(900)]
        values += [value(r) for _ in range(int(rest[0]) - len(values))]
        for i, v in enumerate(values):
            channel.set(f"py_{i}", v)
        finish(n=len(values), keys=sorted(channel.keys()) == sorted(f"py_{i}" for i in range(len(values))))
    elif command == "compare":
        wrong = []
        for i in range(int(rest[0])):
            theirs, ours = channel.get(f"{rest[1]}_{i}", "absent"), channel.get(f"py_{i}")
            if not same(theirs, ours):
                wrong.append(f"{i}: {theirs!r:.200} is not {ours!r:.200}")
        finish(wrong=wrong)
    elif command == "read":
        texts = []
        for i in range(int(rest[0])):
            got = channel.get(f"gen_{i}", "absent")
            texts.append(json.dumps(got))
            channel.set(f"back_{i}", got)
        channel.append("list", "from Python")
        finish(
            texts=texts,
            added=repr(channel.atomic_add("sum", 0.5)),
            exists=channel.exists("gen_0"),
            deleted=channel.delete("gone"),
        )
    elif command == "lock":
        name, times = rest
        for _ in range(int(times)):
            with channel.lock(name, timeout=30):
                before = channel.get(name, 0)
                channel.set("thinking", before)
                channel.set(name, before + 1)
        finish(done=True)


main()
