"""The places where Graflow is changed, each with the failure that it mends.

Nothing of Graflow is edited on disk, and nothing is changed outside a process
that runs tasks for the sidecar. Each change asks for what is there, never for
a version number. Seen in 0.1.9 and 0.2.0.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any, Callable, List, Optional, cast

from ._clients import Clients
from ._forks import Boundary
from ._redis import outages
from ._task import Task

#: The task that this process runs; nested groups tell the sidecar through it.
current_task: Optional[Task] = None

#: Graphs that a task has added something to.
changed_graphs: "weakref.WeakSet[Any]" = weakref.WeakSet()

#: Tasks and groups that were given a context since this was last emptied.
given_context: List[Any] = []


def apply(clients: Clients) -> None:
    """Change Graflow in this process. Once, before the first task."""
    _group_clients(clients)
    _channel_clients(clients)
    _feedback_clients(clients)
    _graph_store_clients(clients)
    _barrier_waits()
    _graph_changes()
    _context_marks()
    _forks_end()


def _group_clients(clients: Clients) -> None:
    # graflow/utils/redis_utils.py, create_redis_client: a nested group's
    # coordinator connects anew, by host, port, db and password alone. TLS is
    # lost, and every group leaves a pool behind.
    from graflow.utils import redis_utils

    original = redis_utils.create_redis_client

    @functools.wraps(original)
    def create_redis_client(config: Any) -> Any:
        pair = None if "redis_client" in config else clients.for_config(config)
        if pair is None:
            return original(config)
        # In 0.1.9 a worker's context says decode_responses=False, since it was
        # made from the graph store's binary client; ours never does.
        return pair.text if config.get("decode_responses", True) else pair.binary

    redis_utils.create_redis_client = create_redis_client


def _channel_clients(clients: Clients) -> None:
    # graflow/channels/redis_channel.py, RedisChannel.__init__: the channel of a
    # branch (a nested group in threads) is given its parent's parameters
    # without the client, and connects without username and TLS.
    from graflow.channels.redis_channel import RedisChannel

    original = RedisChannel.__init__

    @functools.wraps(original)
    def init(self: Any, name: str, redis_client: Any = None, *args: Any, **kwargs: Any) -> None:
        if redis_client is None:
            pair = clients.for_config(_named(args, kwargs))
            redis_client = pair.text if pair else None
        original(self, name, redis_client, *args, **kwargs)

    RedisChannel.__init__ = init


def _feedback_clients(clients: Clients) -> None:
    # graflow/hitl/backend/redis.py, RedisFeedbackBackend.__init__: every
    # ExecutionContext makes one, after the client was taken out of its
    # configuration: no password, no TLS, a new pool for every task.
    from graflow.hitl.backend.redis import RedisFeedbackBackend

    original = RedisFeedbackBackend.__init__

    @functools.wraps(original)
    def init(self: Any, redis_client: Any = None, *args: Any, **kwargs: Any) -> None:
        if redis_client is None:
            pair = clients.for_config(_named(args, kwargs))
            if pair is not None:
                redis_client = clients.feedback if pair is clients.main else pair.text
        original(self, redis_client, *args, **kwargs)

    RedisFeedbackBackend.__init__ = init


def _named(args: Any, kwargs: Any) -> Any:
    # Both constructors take host, port and db in this order.
    return {**dict(zip(("host", "port", "db"), args)), **kwargs}


def _graph_store_clients(clients: Clients) -> None:
    # graflow/coordination/graph_store.py, GraphStore._ensure_binary_client: it
    # clones a text client without its connection class, which loses TLS. In
    # 0.1.9 it also passes the pool's own entries to Redis(), a TypeError with
    # redis-py 8.
    from graflow.coordination.graph_store import GraphStore

    original = GraphStore._ensure_binary_client

    def ensure_binary_client(redis_client: Any) -> Any:
        ours = clients.binary_of(redis_client)
        if ours is not None:
            return ours
        try:
            return original(redis_client)
        except TypeError:
            return _binary_clone(redis_client)

    GraphStore._ensure_binary_client = staticmethod(ensure_binary_client)


def _binary_clone(client: Any) -> Any:
    import inspect

    known = inspect.signature(type(client).__init__).parameters
    options = client.connection_pool.connection_kwargs
    kept = {name: value for name, value in options.items() if name in known}
    kept["decode_responses"] = False
    return type(client)(**kept)


def _barrier_waits() -> None:
    # graflow/coordination/redis_coordinator.py, RedisCoordinator.wait_barrier:
    # the task holds its slot while it waits for tasks that need slots, so the
    # sidecar is told. And it takes every exception for a barrier that was not
    # reached, so that an outage of Redis fails the task as a timeout.
    from graflow.coordination.redis_coordinator import RedisCoordinator

    original = RedisCoordinator.wait_barrier

    @functools.wraps(original)
    def wait_barrier(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = outages.count
        task = current_task
        with task.waiting() if task else contextlib.nullcontext():
            reached = original(self, *args, **kwargs)
        lost = outages.last()
        if not reached and outages.count != before and lost is not None:
            raise lost
        return reached

    RedisCoordinator.wait_barrier = wait_barrier


def _graph_changes() -> None:
    # graflow/core/graph.py, TaskGraph: the graph store hands the same object to
    # every task of a graph, and next_task, next_iteration and add_edge change
    # it. Their second run finds the task there already and takes that for a
    # jump, which skips the successors.
    from graflow.core.graph import TaskGraph

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def changing(self: Any, *args: Any, **kwargs: Any) -> Any:
            changed_graphs.add(self)
            return method(self, *args, **kwargs)

        return changing

    for name in ("add_node", "add_edge", "clear", "rename_node"):
        if hasattr(TaskGraph, name):
            setattr(TaskGraph, name, noting(getattr(TaskGraph, name)))


def _context_marks() -> None:
    # graflow/core/task.py, Executable.set_execution_context: the context stays
    # in the task, and so in the graph that the store keeps: a task function
    # that calls another task as a function would find an earlier session's
    # channel there. Noted here, taken back when the run is over.
    from graflow.core.task import Executable

    original = Executable.set_execution_context

    @functools.wraps(original)
    def set_execution_context(self: Any, *args: Any, **kwargs: Any) -> None:
        given_context.append(self)
        original(self, *args, **kwargs)

    Executable.set_execution_context = set_execution_context


def _forks_end() -> None:
    # graflow/core/handlers/direct.py, DirectTaskHandler.execute_task: a process
    # that a task has forked and that returns, or raises, would store a result of
    # the task, run what comes after it, or in a group in threads wait for ever.
    from graflow.core.handlers.direct import DirectTaskHandler

    original = DirectTaskHandler.execute_task

    @functools.wraps(original)
    def execute_task(self: Any, task: Any, context: Any) -> Any:
        return original(self, cast(Any, _Bounded(task)), context)

    DirectTaskHandler.execute_task = execute_task


class _Bounded:
    """A task whose run() ends the processes that were forked in it."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with Boundary():
            return self._task.run(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore  # for isinstance
        return self._task.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)
