"""A worker of several task functions, each for its own tasks."""

from __future__ import annotations

import inspect
import re
from typing import Any, Callable, Dict, List, NamedTuple, Pattern, Tuple

from ._async import plain
from ._serve import serve
from ._task import Task, TaskError


class Worker:
    """Task functions, by patterns of task ids.

        worker = Worker(name="etl")

        @worker.task("etl.*")
        def clean(task, rows, limit=100):
            task.progress(0.5)
            return rows[:limit]

        worker.serve()

    The first parameter of a function is the Task, with its channel, progress and
    log; each further one is an input, as a keyword argument is for Graflow: what
    remote_task has bound to it, else the result of the task of that name, else the
    value of that key of the channel. A member of that name in the record's "params"
    object comes before all. A function with **kwargs gets whatever the workflow has
    for the task.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of serve()."""
        self._options = options
        self._functions: List[_Function] = []

    def task(self, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Say which tasks a function is for: * stands for any characters.

        Of several patterns that fit, the one with the most characters besides *
        counts. The function may be a coroutine function; each task then has an
        event loop of its own.
        """
        if any(pattern == known.pattern for known in self._functions):
            raise ValueError(f"the task {pattern!r} is there twice")

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
            names, rest = _inputs_of(function)
            self._functions.append(_Function(pattern, fits, plain(function), names, rest))
            self._functions.sort(key=lambda known: -len(known.pattern.replace("*", "")))
            return function

        return register

    def serve(self, **options: Any) -> None:
        """Run tasks until the sidecar says that it is enough; see serve()."""
        inputs: Dict[str, List[str]] = {}
        for known in self._functions:
            if known.names or known.rest:
                inputs[known.pattern] = known.names
        serve(self._run, **{"inputs": inputs, **self._options, **options})

    def _run(self, task: Task) -> Any:
        task_id = str(task.record.get("task_id"))
        for known in self._functions:
            if known.fits.fullmatch(task_id):
                found = task.inputs.items()
                given = {name: value for name, value in found if known.rest or name in known.names}
                params = task.record.get("params")
                if isinstance(params, dict):
                    given.update(params)
                return known.function(task, **given)
        patterns = ", ".join(known.pattern for known in self._functions)
        raise TaskError(
            f"this worker has no task {task_id!r}; it has {patterns}", kind="UnknownTask"
        )


class _Function(NamedTuple):
    pattern: str
    fits: Pattern[str]
    function: Callable[..., Any]
    names: List[str]  # of its inputs
    rest: bool  # whether it has **kwargs


def _inputs_of(function: Callable[..., Any]) -> Tuple[List[str], bool]:
    parameters: List[Any] = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        name = getattr(function, "__name__", function)
        raise TypeError(f"the first parameter of {name} must be for the task")
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters[1:] if p.kind in kinds]
    return names, any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)
