"""Coroutine functions as task functions."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

from ._forks import Boundary
from ._task import Task, TaskCancelled


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or one that runs a coroutine function to its end."""
    if not inspect.iscoroutinefunction(function):
        return function
    import asyncio  # a twentieth of a second, for those that need it

    @functools.wraps(function)
    def run(task: Task, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            loop = asyncio.get_running_loop()
            current = asyncio.current_task()
            assert current is not None
            # An exception that is raised in the middle of the event loop may be
            # one of a callback, which only logs it. So the coroutine is cancelled.
            task._stop = lambda: loop.call_soon_threadsafe(current.cancel)
            try:
                if task.cancelled:
                    raise TaskCancelled
                # Here, since the end of a loop in a forked child takes its parent's
                # own descriptors out of the epoll that both have.
                with Boundary():
                    return await function(task, *args, **kwargs)
            finally:
                task._stop = None

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            if task.cancelled:
                raise TaskCancelled from None
            raise

    return run
