"""serve(): a whole worker."""

from __future__ import annotations

import faulthandler
import inspect
import os
import platform
import stat
import sys
import traceback
import warnings
from typing import Any, Callable, Dict, List, Optional, TypedDict, Union

from . import _forks, _messages, _signals, _stdio, _task
from ._async import plain
from ._reader import Reader
from ._server import Server
from ._stdio import take_stdio
from ._task import StartError, Task

Handler = Callable[[Task], Any]


class Options(TypedDict, total=False):
    """The keyword arguments of serve(), which Worker takes as well."""

    concurrency: int
    name: str
    version: Union[str, Callable[[], str]]
    setup: Optional[Callable[[], Optional[Handler]]]
    inputs: Optional[Dict[str, List[str]]]


_BY_HAND = (
    "This is a worker of graflow-sidecar: it takes its tasks from a sidecar."
    " Run it as: sidecar run -- COMMAND"
)
_serving: Optional[Server] = None


def serve(
    handler: Handler,
    *,
    concurrency: int = 1,
    name: str = "python-worker",
    version: Union[str, Callable[[], str]] = platform.python_version(),
    setup: Optional[Callable[[], Optional[Handler]]] = None,
    inputs: Optional[Dict[str, List[str]]] = None,
) -> None:
    """Run tasks that the sidecar sends, until it says that it is enough.

    handler(task) is called for each record. What it returns, anything that JSON
    can hold, is the task's result; what it raises, of whatever class, is the
    task's failure. See Task and TaskError. It may be a coroutine function: each task
    then has an event loop of its own. See Worker for a function for each kind of
    task.

    concurrency is how many tasks run at once. With 1 they run in the main
    thread, one after another; with more, in threads. For work that keeps the
    processor busy have the sidecar start more processes instead. name and
    version are what the sidecar's log calls this worker; a function as version
    is called after setup.

    setup() is called once, in the main thread, before the sidecar is told that
    the worker is ready. It may return a handler to use instead. Raise StartError
    in it for a worker that cannot work: its text is what the user reads.

    inputs names what is to come with a task as task.inputs, by patterns of task
    ids in which a * stands for any characters: {"etl.*": ["rows"]}. What comes is
    what Graflow would give to a parameter of that name.

    Standard input and output belong to the protocol from here on: prints go to
    the log, reading stdin gives end of file. Returns after a shutdown; the
    program should then end. Call it from the main thread, once.
    """
    global _serving
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    _check(handler)
    if _spawned():
        return
    read_fd, write_fd = take_stdio()
    if stat.S_ISCHR(os.fstat(read_fd).st_mode):
        # A terminal or /dev/null: no sidecar speaks from there.
        sys.exit(_BY_HAND)
    if not faulthandler.is_enabled() and sys.stderr is not None:
        # A crash in C code then leaves a trace in the log.
        faulthandler.enable()
    # Python 3.12 and later warn of a fork beside other threads: ours bear one.
    text = r"This process \(pid=\d+\) is multi-threaded"
    warnings.filterwarnings("ignore", text, DeprecationWarning)
    problem = None
    handler = plain(handler)
    server = Server(handler, write_fd, concurrency)
    server.signals.install()
    server.outbox.start()
    _serving = server
    reader = Reader(server, read_fd)
    reader.start()
    try:
        if setup is not None:
            with _forks.Boundary():
                found = setup()
            server.use(plain(found or handler))
    except StartError as exc:
        problem = str(exc)
    except Exception as exc:
        traceback.print_exc()
        problem = f"{type(exc).__name__}: {exc}"
    request_id = server.greeting.get()
    if request_id is not None:
        given = version() if callable(version) else version
        reader.greet(_greeting(request_id, problem, name, given, concurrency, inputs))
        if problem is None:
            server.run()
    server.ended.set()
    server.signals.restore()
    if request_id is None and not server.told:
        sys.exit(_BY_HAND)
    if problem is not None:
        sys.exit(1)


def _check(handler: Handler) -> None:
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # of a function in C, which tells none
    try:
        signature.bind(object())
    except TypeError as exc:
        name = getattr(handler, "__name__", "handle")
        raise TypeError(
            f"the handler is called with the task alone, as in: def {name}(task). {name} has the"
            f" signature {name}{signature}: {exc}. For parameters that are inputs see Worker"
        ) from None


def _spawned() -> bool:
    # A child of multiprocessing's "spawn" imports the worker's script again to
    # find the function that it is to run; it is no worker.
    module = sys.modules.get("multiprocessing.process")
    return module is not None and getattr(module.current_process(), "_inheriting", False)


def _greeting(
    request_id: str,
    problem: Optional[str],
    name: str,
    version: str,
    concurrency: int,
    inputs: Optional[Dict[str, List[str]]],
) -> str:
    if problem is not None:
        return _messages.error(request_id, _messages.INTERNAL_ERROR, problem)
    worker = _messages.encode_value({"name": name, "version": version})[1]
    wanted = f',"inputs":{_messages.encode_value(inputs)[1]}' if inputs else ""
    return _messages.result(
        request_id,
        f'{{"protocolVersion":{_messages.PROTOCOL_VERSION},"worker":{worker},'
        f'"concurrency":{concurrency},"capabilities":{{"channels":{{}}}}{wanted}}}',
    )


def _after_fork_in_child() -> None:
    global _serving
    server, _serving = _serving, None
    if server is not None:
        server.after_fork()
        _stdio.abandon()
        _task.after_fork()
        _forks.forget_exit_handlers()
    _signals.release()


# Once for all: hooks cannot be taken back.
os.register_at_fork(
    before=_signals.hold,
    after_in_parent=_signals.release,
    after_in_child=_after_fork_in_child,
)
