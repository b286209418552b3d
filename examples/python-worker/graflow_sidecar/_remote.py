"""Tasks of a Graflow workflow that workers in other languages run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

if TYPE_CHECKING:
    from ._stub import RemoteTask


def remote_task(
    task_id: str,
    *,
    inputs: Union[Iterable[Any], Mapping[str, Any]] = (),
    params: Optional[Mapping[str, Any]] = None,
    backend_config: Optional[Mapping[str, Any]] = None,
    timeout: Optional[float] = 30.0,
) -> RemoteTask:
    """A task for >> and | of a workflow, whose function is in a worker elsewhere.

        clean = remote_task("etl.clean", inputs=["fetch"], params={"threshold": 0.9})
        fetch >> (clean | score).with_execution(backend=CoordinationBackend.REDIS) >> report

    The worker is one that a sidecar runs, in any language; it knows the task by its
    id. inputs are names: the worker gets the result of the task of each name, else
    the value of that key of the channel. A mapping gives them other names than their
    sources have: {"rows": "fetch"}; for a name there may be the task itself. params
    are values for the worker, and come before inputs of the same names.

    In a group with the Redis backend the task is dispatched as any other. Where the
    producer would run it itself, in a chain or in a group in threads, it has a
    worker do it: it sends a group of this task alone through the queue of the
    context's Redis and key_prefix, and waits for at most timeout seconds, None for
    as long as it takes. backend_config is as with_execution() of a group takes it,
    for another queue.

    Calling the task with keyword arguments makes another one with these as params,
    as with Graflow's own tasks: clean(task_id="etl.clean.eu", threshold=0.7).
    """
    try:
        from ._stub import RemoteTask
    except ImportError as exc:
        raise ImportError(
            f"remote_task needs Graflow and redis ({exc}): pip install graflow redis"
        ) from exc
    from graflow.utils.redis_utils import ensure_redis_connection_params

    config = dict(backend_config or {})
    ensure_redis_connection_params(config)
    config.pop("redis_client", None)  # has locks, and cannot be pickled
    return RemoteTask(task_id, _inputs_of(inputs), params or {}, config, timeout)


def _inputs_of(inputs: Union[Iterable[Any], Mapping[str, Any]]) -> Dict[str, str]:
    """Names, or parameters with the names of their sources, as the latter."""
    if isinstance(inputs, str):
        raise TypeError("inputs is a list of names, not one name")
    pairs: List[Tuple[Any, Any]]
    if isinstance(inputs, Mapping):
        pairs = list(inputs.items())
    else:
        pairs = [(name, name) for name in inputs]
    found = {}
    for name, source in pairs:
        source = getattr(source, "task_id", source)
        name = getattr(name, "task_id", name)
        if not isinstance(name, str) or not isinstance(source, str):
            raise TypeError(f"an input is a task or its name, not {source!r}")
        found[name] = source
    return found
