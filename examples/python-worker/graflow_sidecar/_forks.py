"""Ends processes that a task has forked, as any Python program ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from typing import Any, NoReturn, Optional


class Boundary:
    """A block that no process leaves that was forked inside it.

    Such a process ends at the end of the block, with the status that a program
    has that ends in the same way. What is behind the block belongs to the worker:
    answers, loops and connections that the worker goes on using, and a shutdown.

        with Boundary():
            call_the_task()
    """

    __slots__ = ("_pid",)

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(self, _kind: Any, exc: Optional[BaseException], _trace: Any) -> None:
        if os.getpid() != self._pid:
            leave(exc)


def forget_exit_handlers() -> None:
    """In a forked child: drop the exit handlers that it has inherited.

    They delete the worker's temporary folders, end its pools and close its
    connections. Handlers that the child registers itself are run at its end.
    """
    atexit._clear()
    # Pools are ended by lists of their threads, of which a fork has none but, in
    # one that a pool's thread has made, itself: it cannot wait for itself.
    for module, name in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        threads = getattr(sys.modules.get(f"concurrent.futures.{module}"), name, None)
        if threads is not None:
            threads.clear()


def leave(exc: Optional[BaseException] = None) -> NoReturn:
    """End this process as Python does when its program ends with exc, or by itself."""
    status = 1
    try:
        status = _status(exc)
        for step in (_wait_for_threads, atexit._run_exitfuncs, _flush):
            # What one raises keeps no other from being done, and must not go on
            # as an exception of the task.
            with contextlib.suppress(BaseException):
                step()
        if isinstance(exc, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(status)


def _wait_for_threads() -> None:
    threading._shutdown()  # type: ignore[attr-defined]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _status(exc: Optional[BaseException]) -> int:
    if exc is None:
        return 0
    if not isinstance(exc, SystemExit):
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return 1
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code & 0xFF
    print(exc.code, file=sys.stderr)
    return 1
