"""Runs Graflow's tasks for the sidecar: python -m graflow_sidecar.graflow.

The sidecar starts it (sidecar run --graflow) and gives it the records of
Graflow's queue; Graflow's own engine runs them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import platform
import sys
from typing import Any, Callable, Optional

from . import __version__
from ._serve import serve
from ._stdio import take_stdio
from ._task import StartError, Task

# What a worker imports until its first task has ended, that of a nested group
# included. Graflow imports much of it only when it is used.
_USED = (
    "graflow",
    "redis",
    "._runner",
    "graflow.channels.redis_channel",
    "graflow.coordination.redis_coordinator",
    "graflow.core.handlers.direct",
    "graflow.core.handlers.group_policy",
    "graflow.hitl.backend.redis",
    "graflow.hitl.handler",
    "graflow.hitl.manager",
    "graflow.utils.redis_utils",
    "encodings.idna",  # by the look-up of a host name
)

_LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def main() -> None:
    """Serve until the sidecar says that it is enough."""
    # Before anything of the user's, which may print, is imported.
    take_stdio()
    _start_log()
    serve(_unprepared, name="graflow", version=_versions, setup=_setup)


def fork_server(fd: int) -> None:
    """Be a fork server on descriptor fd; in each of its forks, as main()."""
    from . import _forkserver

    _forkserver.run(fd, _preload, main)


def _preload() -> None:
    _start_log()
    for module in _USED:
        # What is not installed is missing in a fork too, which says so in the
        # way that the sidecar's user knows.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module, __package__)
    if "graflow" in sys.modules:
        # Of the code that was just loaded: by the time of a fork another
        # version may be installed.
        _versions()


def _start_log() -> None:
    level = os.environ.get("LOG_LEVEL", "").upper()
    logging.basicConfig(
        level=level if level in _LEVELS else "INFO",
        # As graflow.worker.main has it.
        format="%(asctime)s - %(name)s - %(levelname)s - %(message)s",
    )


def _unprepared(task: Task) -> None:
    raise RuntimeError("no task may come before the setup")


def _setup() -> Callable[[Task], Any]:
    try:
        import graflow
    except ModuleNotFoundError as exc:
        if exc.name != "graflow":
            raise StartError(_cannot(exc)) from exc
        if sys.version_info < (3, 10):
            raise StartError(
                f"Graflow needs Python 3.10 or newer, and {sys.executable} is"
                f" {platform.python_version()} (set SIDECAR_PYTHON)"
            ) from None
        raise StartError(
            f"Graflow is not installed for {sys.executable}:"
            " pip install graflow redis (or set SIDECAR_PYTHON)"
        ) from None
    except Exception as exc:
        raise StartError(_cannot(exc)) from exc
    del graflow
    try:
        import redis  # noqa: F401
    except ModuleNotFoundError:
        raise StartError(
            f"the redis package is not installed for {sys.executable}:"
            " pip install redis (or set SIDECAR_PYTHON)"
        ) from None
    try:
        from . import _compat
        from ._clients import Clients
        from ._runner import Runner
        from ._settings import Settings

        clients = Clients(Settings.from_env(os.environ))
        _compat.apply(clients)
        return Runner(clients, os.environ.get("REDIS_KEY_PREFIX") or "graflow")
    except ValueError as exc:
        raise StartError(str(exc)) from exc
    except (ImportError, AttributeError) as exc:
        raise StartError(_cannot(exc)) from exc


def _cannot(exc: BaseException) -> str:
    return (
        f"Graflow {_version('graflow') or ''} cannot be used by {sys.executable}:"
        f" {type(exc).__name__}: {exc}"
    )


@functools.lru_cache(maxsize=None)
def _versions() -> str:
    return (
        f"{_version('graflow')} (graflow_sidecar {__version__},"
        f" redis {_version('redis')}, Python {platform.python_version()})"
    )


def _version(package: str) -> Optional[str]:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
