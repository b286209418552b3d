"""A worker of several task functions, each for its own tasks."""

from __future__ import annotations

import inspect
import re
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Pattern,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from ._async import plain
from ._serve import Options, serve
from ._task import Task, TaskError

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Function = Callable[..., Any]
# A function keeps its own type when it is registered.
_F = TypeVar("_F", bound=_Function)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class Worker:
    """Task functions, by patterns of task ids.

        worker = Worker(name="etl")

        @worker.task("etl.*")
        def clean(task, rows, limit=100):
            task.progress(0.5)
            return rows[:limit]

        @worker.task
        def count(rows):  # for the task "count"
            return len(rows)

        worker.serve()

    A parameter that is called task, or annotated as Task, gets the Task, with its
    channel, progress and log; a function may have none. Each other one is an input, as
    a keyword argument is for Graflow: what remote_task has bound to it, else the result
    of the task of that name, else the value of that key of the channel. A member of
    that name in the record's "params" object comes before all. A function with **kwargs
    gets whatever the workflow has for the task.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        """Take the options of serve()."""
        self._options = options
        self._functions: List[_Registered] = []

    @overload
    def task(self, pattern: str) -> Callable[[_F], _F]: ...
    @overload
    def task(self, pattern: _F) -> _F: ...
    def task(self, pattern: Union[str, _F]) -> Union[_F, Callable[[_F], _F]]:
        """Say which tasks a function is for: * stands for any characters.

        Of several patterns that fit, the one with the most characters besides *
        counts. As a decorator without a pattern it is for the task that is called as
        the function. The function may be a coroutine function; each task then has an
        event loop of its own. The function itself is returned.
        """
        if callable(pattern):
            return self.task(_name_of(pattern))(pattern)
        given = pattern
        if any(given == known.pattern for known in self._functions):
            raise ValueError(f"the task {given!r} is there twice")

        def register(function: _F) -> _F:
            fits = re.compile(".*".join(map(re.escape, given.split("*"))), re.DOTALL)
            self._functions.append(_Registered(given, fits, *_inspected(function)))
            self._functions.sort(key=lambda known: -len(known.pattern.replace("*", "")))
            return function

        return register

    def serve(self, **options: Unpack[Options]) -> None:
        """Run tasks until the sidecar says that it is enough; see serve().

        Options given here come before those of the constructor.
        """
        inputs: Dict[str, List[str]] = {}
        for known in self._functions:
            if known.names or known.rest:
                inputs[known.pattern] = known.names
        merged: Options = {"inputs": inputs, **self._options, **options}
        serve(self._run, **merged)

    def _run(self, task: Task) -> Any:
        task_id = str(task.record.get("task_id"))
        for known in self._functions:
            if known.fits.fullmatch(task_id):
                return known.call(task, known.arguments(task))
        patterns = ", ".join(known.pattern for known in self._functions)
        raise TaskError(
            f"this worker has no task {task_id!r}; it has {patterns}", kind="UnknownTask"
        )


class _Registered(NamedTuple):
    pattern: str
    fits: Pattern[str]
    function: _Function
    call: _Function  # with the Task and its inputs
    names: List[str]  # of its inputs
    needed: List[str]  # those without a default
    rest: bool  # whether it has **kwargs

    def arguments(self, task: Task) -> Dict[str, Any]:
        found = task.inputs.items()
        given = {name: value for name, value in found if self.rest or name in self.names}
        params = task.record.get("params")
        if isinstance(params, dict):
            given.update(params)
        for name in self.needed:
            if name not in given:
                raise TaskError(
                    f"there is no value for the parameter {name!r} of {_name_of(self.function)}:"
                    " no input and no member of the record's params has that name"
                    " (the Task itself is given to a parameter called task)",
                    kind="TypeError",
                )
        return given


def _inspected(function: _Function) -> Tuple[_Function, _Function, List[str], List[str], bool]:
    # All of a _Registered but its patterns.
    parameters = list(inspect.signature(function).parameters.values())
    place = _place_of_task(function, parameters)
    inputs = [p for p in parameters if p.kind in _BY_NAME and p is not place]
    names = [p.name for p in inputs]
    needed = [p.name for p in inputs if p.default is inspect.Parameter.empty]
    rest = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)
    return function, _caller(function, place), names, needed, rest


def _place_of_task(
    function: _Function, parameters: List[inspect.Parameter]
) -> Optional[inspect.Parameter]:
    # The parameter that gets the Task, or None.
    place = next((p for p in parameters if p.name == "task" or _is_task(p.annotation)), None)
    if place is None and parameters and parameters[0].kind in _BY_PLACE:
        place = parameters[0]  # *args is that of a decorator, which passes it on
    for parameter in parameters:
        if parameter.kind == inspect.Parameter.POSITIONAL_ONLY and parameter is not place:
            name = _name_of(function)
            raise TypeError(
                f"the parameter {parameter.name!r} of {name} cannot be given by its name, as"
                f" inputs are: {name}(task, rows) and {name}(rows) are signatures of tasks"
            )
    return place


def _is_task(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Task"
    return annotation is Task


def _caller(function: _Function, place: Optional[inspect.Parameter]) -> _Function:
    # Calls the function with a Task and a dictionary of its inputs.
    def arguments(task: Task, given: Dict[str, Any]) -> Tuple[List[Task], Dict[str, Any]]:
        if place is None:
            return [], given
        if place.kind in _BY_NAME:
            return [], {**given, place.name: task}
        return [task], given

    if inspect.iscoroutinefunction(function):

        async def start(task: Task, given: Dict[str, Any]) -> Any:
            by_place, by_name = arguments(task, given)
            return await function(*by_place, **by_name)

        return plain(start)

    def call(task: Task, given: Dict[str, Any]) -> Any:
        by_place, by_name = arguments(task, given)
        return function(*by_place, **by_name)

    return call


def _name_of(function: _Function) -> str:
    return str(getattr(function, "__name__", function))
