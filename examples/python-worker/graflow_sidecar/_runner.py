"""Runs Graflow's records as Graflow's own worker does.

The order of steps and every text that a producer reads are those of
TaskWorker._process_task_wrapper in graflow/worker/worker.py; a test compares
the two. What Graflow's worker drops in silence (a graph that has expired, a
record with a field too many, a task that calls sys.exit) is a failed task here.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional, Tuple, cast

from graflow.coordination.records import SerializedTaskRecord
from graflow.core.engine import WorkflowEngine
from graflow.exceptions import GraflowRuntimeError
from graflow.worker.context_factory import ExecutionContextFactory
from graflow.worker.worker import TaskWorker
from redis.exceptions import AuthenticationError

from . import _compat
from ._clients import Clients
from ._graphs import Graphs
from ._redis import outages
from ._task import Task, TaskError, stack_of, text_of

logger = logging.getLogger("graflow_sidecar.graflow")

_LOST = "Redis was away while the task ran"
_REFUSED = "Redis refused the worker's password, which is being changed, while the task ran"


class _Tracing(TaskWorker):  # type: ignore[misc]
    """Only for _create_tracer; a TaskWorker proper takes signals and a queue."""

    def __init__(self) -> None:
        # What graflow.worker.main gives it: nothing.
        self.tracer_config: Dict[str, Any] = {}


class Runner:
    """Runs one record at a time, in the thread that calls it."""

    def __init__(self, clients: Clients, key_prefix: str) -> None:
        self._engine = WorkflowEngine()
        self._tracing = _Tracing()
        self._graphs = Graphs(clients.main, key_prefix)

    def __call__(self, task: Task) -> None:
        """Run the record; the result stays in Graflow's channel."""
        outages.clear()
        _compat.current_task = task
        try:
            record, context = self._load(task)
            graph = context.graph
            size = len(graph.nodes)
            try:
                self._execute(record, context)
            finally:
                self._graphs.release(record.graph_hash, graph, size)
        finally:
            _compat.current_task = None

    def _load(self, task: Task) -> Tuple[SerializedTaskRecord, Any]:
        try:
            record = SerializedTaskRecord(**task.record)
            context, _ = ExecutionContextFactory.create_from_record(
                record, cast(Any, self._graphs)
            )
        except Exception as exc:
            # TypeError: a field too many or too few. ValueError: no such graph
            # or task. Both explain themselves; an unpickling error does not.
            text = str(exc)
            if not isinstance(exc, (TypeError, ValueError)):
                text = f"{type(exc).__name__}: {text} (while loading the task's graph)"
            raise self._failed(exc, text) from exc
        return record, context

    def _execute(self, record: SerializedTaskRecord, context: Any) -> None:
        try:
            tracer = self._tracing._create_tracer()
            context.tracer = tracer
            if record.trace_id:
                tracer.attach_to_trace(
                    trace_id=record.trace_id, parent_span_id=record.parent_span_id
                )
            self._engine.execute(context, start_task_id=record.task_id)
            tracer.shutdown()
        except TimeoutError as exc:
            raise self._failed(exc, "Task execution timeout") from exc
        except Exception as exc:
            raise self._failed(exc, _text(exc)) from exc

    def _failed(self, exc: Exception, text: str) -> TaskError:
        if is_outage(exc):
            # No stack, and no text of redis-py's: an outage is the sidecar's to
            # report, once, and none of it is the task's.
            logger.debug("Redis was lost under a task: %s", text)
            refused = isinstance(outages.last(), AuthenticationError)
            text = _REFUSED if refused else _LOST
            return TaskError(text, kind="RedisUnavailable", retryable=True, stack="")
        # The sidecar logs it, once, with the stack.
        return TaskError(text, kind=type(_cause(exc)).__name__, stack=stack_of(_raised(exc)))


def _cause(exc: BaseException) -> BaseException:
    # Graflow wraps what a task raises; the task's own exception tells more.
    cause = getattr(exc, "cause", None)
    return cause if type(exc) is GraflowRuntimeError and cause is not None else exc


# What Graflow's engine puts before the text of an exception that a task raises.
_ENGINE = "An error occurred: "


def _text(exc: BaseException) -> str:
    # A MemoryError has no text, and the engine's alone would say nothing.
    text = str(exc)
    return text + type(_cause(exc)).__name__ if text in ("", _ENGINE) else text


def _raised(exc: BaseException) -> BaseException:
    # What the task has raised, of an exception that Graflow's engine has made of it:
    # text and kind tell all that it adds, and its traceback only where it was made.
    found = getattr(exc, "last_error", None)  # RetryLimitExceededError
    cause = _cause(exc)
    if cause is not exc and exc.args[:1] in ((_ENGINE + text_of(cause),), (_ENGINE,)):
        found = cause
    return found if isinstance(found, BaseException) else exc


def is_outage(exc: BaseException) -> bool:
    """Whether Redis being away, for one of our own connections, is behind exc.

    Only our own: a task that cannot reach another Redis of its own has failed.
    """
    seen = set()
    pending: List[Optional[BaseException]] = [exc]
    while pending:
        item = pending.pop()
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        if getattr(item, "graflow_sidecar_outage", False) or _lost_in_group(item):
            return True
        pending += [item.__cause__, item.__context__]
        # Graflow's own links, and those of an ExceptionGroup.
        pending += [getattr(item, "cause", None), getattr(item, "last_error", None)]
        members: Any = getattr(item, "exceptions", ())
        if isinstance(members, (tuple, list)):
            pending += members
    return False


def _lost_in_group(exc: BaseException) -> bool:
    # A nested group in threads keeps only the texts of its members' errors.
    failed: Any = getattr(exc, "failed_tasks", None)
    if not isinstance(failed, (list, tuple)):
        return False
    lost = [text for text in outages.texts() if text]
    return any(text in str(member) for member in failed for text in lost)
