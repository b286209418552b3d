"""The class of a remote task, in whatever process it comes to be.

Nothing here may need this package where a task is unpickled: a worker has
Graflow, and that is all that is asked of it. So a task is pickled as the class's
functions, by value, and not as an instance of this class by its name. (Of a
class that it pickles by value, cloudpickle notes a random number: each run of a
producer would have a graph, and Redis a copy, of its own.) The functions
therefore take all from Graflow, from Python or from their own arguments: no
super(), and none of this module's names but functions that stand here, too.
"""

from __future__ import annotations

import json
import sys
import time
import types
import uuid
from typing import Any, Dict, Mapping, Optional

import cloudpickle
from graflow.channels.redis_channel import RedisChannel
from graflow.coordination.coordinator import CoordinationBackend
from graflow.coordination.executor import GroupExecutor
from graflow.coordination.records import SerializedTaskRecord
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, TaskWrapper
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class RemoteTask(TaskWrapper):  # type: ignore[misc]
    """A task of a workflow that a worker in another process runs, see remote_task()."""

    def __init__(
        self,
        task_id: str,
        inputs: Mapping[str, str],
        params: Mapping[str, Any],
        backend_config: Mapping[str, Any],
        timeout: Optional[float],
    ) -> None:
        # First of all: within a workflow's block, Graflow's constructor puts the task
        # into its graph.
        params = _checked(task_id, params)
        self._remote_inputs = dict(inputs)
        self._backend_config = dict(backend_config)
        self._timeout = timeout
        # With inject_context, an iteration without data calls this with nothing.
        TaskWrapper.__init__(self, task_id, _body, inject_context=True)
        self.__name__ = self.__qualname__ = task_id
        self._bound_kwargs = params

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make another task with parameters bound, as calling a task of Graflow does.

        Without task_id the new task's id is this one's with an underscore and
        eight random digits. Within another task's function, run the task.
        """
        if args:
            raise TypeError(
                f"remote task {self.task_id!r} takes keyword arguments only: its worker knows"
                " parameters by their names"
            )
        runs = hasattr(self, "_execution_context")  # in a workflow, or once it was
        if "task_id" not in kwargs and (runs or not kwargs):
            return self.run(**kwargs)
        task_id = kwargs.pop("task_id", None) or f"{self.task_id}_{uuid.uuid4().hex[:8]}"
        _leave_graph(self)
        params = {**self._bound_kwargs, **kwargs}
        return type(self)(
            task_id, self._remote_inputs, params, self._backend_config, self._timeout
        )

    def set_execution_context(self, context: Any) -> None:
        """Leave in the channel what the worker is to find there.

        A group calls it for each member before it dispatches any, and the engine
        before it runs a task: both in the process that is the producer.
        """
        TaskWrapper.set_execution_context(self, context)
        _check_place(self, context)
        channel = _channel_of(self, context)
        if self._bound_kwargs:
            channel.set(f"{self.task_id}.__bound__", self._bound_kwargs)
        if self._remote_inputs:
            channel.set(f"{self.task_id}.__inputs__", self._remote_inputs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Have a worker run the task, wait for it and return its result.

        This is what a producer gets to that runs the tasks of a chain itself. It
        raises ParallelGroupError where the task failed, with what the worker said,
        and TimeoutError where it was not done in time.
        """
        if args:
            raise TypeError(f"remote task {self.task_id!r} takes keyword arguments only")
        context = getattr(self, "_execution_context", None)
        channel = _channel_of(self, context)
        coordinator = _coordinator(self, context, channel)
        if _is_the_record(context):
            raise GraflowRuntimeError(
                f"remote task {self.task_id!r} was given to a Python worker of Graflow, and its"
                " function is in another language: every worker of the queue"
                f" {coordinator.task_queue.queue_key!r} must be a sidecar that has a worker for it,"
                f" as in: sidecar run --worker '{self.task_id}=COMMAND' --worker '*=graflow'"
            )
        key = f"{self.task_id}.__result__"
        if self.task_id not in self._remote_inputs.values():
            # Of an earlier turn of a cycle: a worker that returns nothing leaves it.
            channel.delete(key)
        given = _checked(self.task_id, kwargs)
        if given:
            channel.set(f"{self.task_id}.__bound__", {**self._bound_kwargs, **given})
        try:
            _dispatch(self, context, coordinator)
        finally:
            if given:  # for this time only
                channel.set(f"{self.task_id}.__bound__", self._bound_kwargs)
        return channel.get(key)

    def __getstate__(self) -> Dict[str, Any]:
        state: Dict[str, Any] = TaskWrapper.__getstate__(self)
        for name in ("_original_func", "_logger_instance"):
            state.pop(name, None)
        return state

    def __reduce__(self) -> Any:
        methods = {
            name: value
            for name, value in vars(type(self)).items()
            if isinstance(value, types.FunctionType)
        }
        return _revived, (methods, self.__getstate__())

    def __repr__(self) -> str:
        return f"RemoteTask({self.task_id})"


def _revived(methods: Dict[str, Any], state: Dict[str, Any]) -> Any:
    task: Any = object.__new__(type("RemoteTask", (TaskWrapper,), methods))
    task.__dict__.update(state)
    task.func = task._original_func = _body
    return task


def _body(*_: Any, **__: Any) -> None:
    """What stands where a task of Python has its function. It is never called."""
    raise GraflowRuntimeError("a remote task has no function in Python")


def _checked(task_id: str, params: Mapping[str, Any]) -> Dict[str, Any]:
    # Not with default=str, as the channel has it: that makes the text "<object at
    # 0x…>" of what was never meant to be sent.
    for name, value in params.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as exc:
            raise TypeError(
                f"parameter {name!r} of remote task {task_id!r} cannot be sent to a worker in"
                f" another language: {exc}"
            ) from None
    return dict(params)


def _leave_graph(task: Any) -> None:
    # Calling a remote task makes another one. In a workflow's block the one that
    # was called is in the graph as well, and would be a task of its own with
    # nothing before it, unless it is used itself.
    from graflow.core.workflow import get_current_workflow_context

    workflow = get_current_workflow_context()
    if workflow is None:
        return
    graph = workflow.graph.nx_graph()
    if graph.nodes.get(task.task_id, {}).get("task") is not task or graph.degree(task.task_id):
        return
    groups = [node for _, node in graph.nodes(data="task") if isinstance(node, ParallelGroup)]
    if not any(member is task for group in groups for member in group.tasks):
        graph.remove_node(task.task_id)
        task._pending_registration = True


def _channel_of(task: Any, context: Any) -> RedisChannel:
    channel = getattr(context, "channel", None)
    if isinstance(channel, RedisChannel):
        return channel
    found = "no workflow is running" if context is None else f"this is a {type(channel).__name__}"
    raise GraflowRuntimeError(
        f"remote task {task.task_id!r} needs a channel in Redis, where its worker finds its"
        f" parameters and leaves its result, and {found}: run the workflow in"
        " ExecutionContext.create(graph, start, channel_backend='redis',"
        " config={'redis_client': …, 'key_prefix': …})"
    )


def _coordinator(task: Any, context: Any, channel: RedisChannel) -> Any:
    # The context keeps of its client the address and the password only; the
    # channel has the client itself, with TLS and all.
    config = {**context.config, "redis_client": channel.redis_client}
    if any(name != "key_prefix" for name in task._backend_config):
        del config["redis_client"]
    config.update(task._backend_config)
    return GroupExecutor._create_coordinator(CoordinationBackend.REDIS, config, context)


def _is_the_record(context: Any) -> bool:
    # A worker makes a context for each record, and the record's task is the first
    # and outermost one in it. A task that a worker comes to later, as a successor
    # or in a group in threads, it may dispatch as a producer does.
    return (
        context.start_node is None
        and context.parent_context is None
        and context.graph_hash is not None
        and not context.completed_tasks
        and len(context._task_execution_stack) == 1
    )


def _check_place(task: Any, context: Any) -> None:
    # Graflow's worker runs a member's own successors after it, in the same
    # process. A worker in another language has no graph: they would not run, and
    # the workflow would go on as if they were done.
    try:
        group = context.graph.get_node(context.current_task_id)
    except KeyError:
        return
    if not isinstance(group, ParallelGroup) or not any(m is task for m in group.tasks):
        return
    backend = GroupExecutor._resolve_backend(group._execution_config["backend"])
    if backend != CoordinationBackend.REDIS or task.task_id not in context.graph.nodes:
        return
    after = list(context.graph.successors(task.task_id))
    if after:
        raise GraflowRuntimeError(
            f"remote task {task.task_id!r} is in the Redis group {group.task_id!r} and has a"
            f" successor of its own, {after[0]!r}, which its worker cannot run: put it after the"
            f" group, or the group in threads (CoordinationBackend.THREADING), where this process"
            " waits for the one and runs the other"
        )


def _dispatch(task: Any, context: Any, coordinator: Any) -> None:
    queue = coordinator.task_queue
    # A graph of this task alone: the workflow's may hold what cannot be pickled,
    # as long as all else of it runs here. Only a worker that took the record by
    # mistake looks at it.
    graph = TaskGraph()
    graph.add_node(task)
    # A name that was never there before: a record of an earlier try that is still
    # on its way finds its group over, instead of counting for this one.
    group = f"{task.task_id}@{uuid.uuid4().hex}"
    record = SerializedTaskRecord(
        task_id=task.task_id,
        session_id=context.session_id,
        graph_hash=coordinator.graph_store.save(graph),
        trace_id=context.trace_id,
        parent_span_id=context.tracer.get_current_span_id() if context.tracer else None,
        group_id=group,
        created_at=time.time(),
    ).to_json()
    coordinator.create_barrier(group, 1)
    done = False
    try:
        queue.redis_client.lpush(queue.queue_key, record)
        patience = task._timeout if task._timeout is not None else 10**9
        done = coordinator.wait_barrier(group, timeout=patience)
        completions = f"{queue.key_prefix}:completions:{group}"
        completion = queue.redis_client.hget(completions, task.task_id)
    finally:
        # A task that is no longer waited for need not run.
        taken = done or not queue.redis_client.lrem(queue.queue_key, 1, record)
        coordinator.cleanup_barrier(group)
    if not done or not completion:
        # Without a timeout it is an outage of Redis, for which Graflow ends its wait.
        limit = "" if task._timeout is None else f" within {task._timeout:g} s"
        what = "was taken from" if taken else "is still in"
        hint = "" if taken else ": does a sidecar with a worker for it read that queue?"
        raise TimeoutError(
            f"remote task {task.task_id!r} was not done{limit}, and {what} the queue"
            f" {queue.queue_key!r}{hint}"
        )
    outcome = json.loads(completion)
    if not outcome["success"]:
        message = outcome.get("error_message") or "Unknown error"
        raise ParallelGroupError(
            f"remote task {task.task_id!r} failed: {message}",
            group_id=group,
            failed_tasks=[(task.task_id, message)],
            successful_tasks=[],
        )
