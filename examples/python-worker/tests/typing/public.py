"""What type checkers make of the public names: read by mypy and pyright, never run.

A comment "type: ignore" stands where an error is expected: both checkers report
one that they do not need.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from typing_extensions import assert_type

from graflow_sidecar import (
    Channel,
    RequestError,
    Sidecar,
    Task,
    TaskError,
    Worker,
    remote_task,
    serve,
)
from graflow_sidecar._stub import RemoteTask

worker = Worker(name="etl", concurrency=2)


@worker.task("etl.*")
def clean(task: Task, rows: List[str], limit: int = 100) -> List[str]:
    task.progress(0.5, message="half of it")
    return rows[:limit]


@worker.task
def count(rows: List[str]) -> int:
    return len(rows)


@worker.task
async def fetch(task: Task, *, url: str) -> bytes:
    return url.encode()


def of_decorated_functions(task: Task) -> None:
    # A decorated function keeps its own signature: parameters by name, by place, with
    # their defaults, and the result.
    assert_type(clean(task, ["a"]), List[str])
    assert_type(clean(task, rows=["a"], limit=1), List[str])
    assert_type(count(["a"]), int)
    clean(task, ["a"], limit="all")  # type: ignore[arg-type]
    clean(["a"])  # type: ignore[call-arg, arg-type]
    count(rows=3)  # type: ignore[arg-type]
    count()  # type: ignore[call-arg]


async def of_coroutine_functions(task: Task) -> None:
    assert_type(await fetch(task, url="https://…"), bytes)
    await fetch(task, "https://…")  # type: ignore[call-arg]


def of_the_options() -> None:
    worker.serve(concurrency=4, inputs={"etl.*": ["rows"]})
    serve(of_a_task, version=lambda: "1", setup=lambda: of_a_task)
    Worker(names="etl")  # type: ignore[call-arg]
    Worker(concurrency="two")  # type: ignore[arg-type]
    worker.serve(setup=3)  # type: ignore[arg-type]
    worker.task(3)  # type: ignore[call-overload]
    serve(lambda: 1)  # type: ignore[arg-type, misc]


def of_a_task(task: Task) -> Optional[int]:
    assert_type(task.record, Dict[str, Any])
    assert_type(task.attempt, int)
    assert_type(task.deadline, Optional[float])
    assert_type(task.remaining(), Optional[float])
    assert_type(task.cancelled, bool)
    assert_type(task.inputs, Dict[str, Any])
    with task.waiting() as nothing:
        assert_type(nothing, None)
    try:
        return of_a_channel(task.channel)
    except RequestError as problem:
        assert_type(problem.code, int)
        raise TaskError(str(problem), kind="Refused", retryable=problem.retryable) from problem


def of_a_channel(channel: Channel) -> int:
    assert_type(channel.exists("a"), bool)
    assert_type(channel.keys(), List[str])
    assert_type(channel.get_many(["a", "b"]), Dict[str, Any])
    with channel.lock("a", timeout=1.5):
        assert_type(channel.delete("a"), bool)
    return channel.append("a", {"any": ["JSON"]}, ttl=60)


def of_remote_tasks() -> None:
    assert_type(remote_task("clean", inputs={"rows": "fetch"}, timeout=None), RemoteTask)
    remote_task("clean", timeout="never")  # type: ignore[arg-type]


def of_a_sidecar() -> None:
    with Sidecar(redis="embedded", workers=2) as sidecar:
        assert_type(sidecar, Sidecar)
        assert_type(sidecar.redis_url, str)
        assert_type(sidecar.wait(timeout=1), bool)


# The decorator with a pattern is of any type of function, and gives it back.
decorate: Callable[[Callable[[int], str]], Callable[[int], str]] = worker.task("a")
