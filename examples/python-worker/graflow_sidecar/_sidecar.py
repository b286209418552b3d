"""Sidecar(): Redis and workers for the time of a with statement."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from types import TracebackType
from typing import Dict, List, Mapping, Optional, Sequence, Type

from . import _program

# For the sidecar's own watchdog, after its budget for a stop.
_ROOM_SECONDS = 5.0

# The sidecar's exit status where Redis refuses it, or its own has ended.
_UNAVAILABLE = 69


class SidecarError(RuntimeError):
    """The sidecar could not be started, or did not end well."""


class Sidecar:
    """Starts a sidecar with its workers, and stops them in the right order.

        with Sidecar(redis="embedded", workers=2) as s:
            client = redis.Redis.from_url(s.redis_url)
            ...  # a Graflow workflow that uses client

    redis is "embedded", a Redis that lives as long as the statement, or the URL
    of one that is there. workers is how many tasks run at once. command is the
    worker to run; None is Graflow's tasks, with the Python that runs this.
    binary is the sidecar's program; else SIDECAR_BIN, the one that this package was
    installed with, or "sidecar" on PATH. env adds to the environment: any of the
    sidecar's settings. Timeouts are in seconds; stop_timeout is what tasks that run
    at the end have to finish.

    The body begins when workers are up and Redis answers. On the way out workers
    finish what they run, and Redis stops last, also when the body raised; its
    exception then goes on. A sidecar that ends badly raises
    SidecarError, but never in place of the body's own exception. Should this
    program be killed, the sidecar notices and stops all the same.
    """

    def __init__(
        self,
        redis: str = "embedded",
        workers: int = 4,
        *,
        command: Optional[Sequence[str]] = None,
        binary: Optional[str] = None,
        key_prefix: Optional[str] = None,
        start_timeout: float = 30.0,
        stop_timeout: float = 25.0,
        env: Optional[Mapping[str, str]] = None,
    ) -> None:
        #: Where Redis is; known once the sidecar runs.
        self.redis_url: str = ""
        #: The running sidecar, None outside the with statement.
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self._life: Optional[int] = None  # the pipe whose end tells the sidecar of ours
        self._redis = redis
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        try:
            self._binary = _program.find(binary)
        except _program.Missing as problem:
            raise SidecarError(str(problem)) from None
        self._worker = ["--graflow"] if command is None else ["--", *command]
        self._settings: Dict[str, str] = {
            "MAX_CONCURRENT_TASKS": str(workers),
            "SIDECAR_SHUTDOWN_TIMEOUT": f"{stop_timeout}s",
        }
        if command is None:
            self._settings["SIDECAR_PYTHON"] = sys.executable
        if key_prefix is not None:
            self._settings["REDIS_KEY_PREFIX"] = key_prefix
        self._settings.update(env or {})

    def __enter__(self) -> "Sidecar":
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            self.stop()
        except SidecarError as problem:
            if exc is None:
                raise
            _say(f"graflow_sidecar: {problem}")

    def start(self) -> None:
        """Start it and wait until its Redis answers and a worker is up.

        Raises SidecarError if it ends or takes too long.
        """
        if self.process is not None:
            raise SidecarError("the sidecar is running already")
        ready, tells_ready = os.pipe()
        watched, self._life = os.pipe()
        descriptors = ("--ready-fd", str(tells_ready), "--parent-fd", str(watched))
        try:
            try:
                self.process = subprocess.Popen(
                    [self._binary, "run", *descriptors, *self._worker],
                    stdin=subprocess.DEVNULL,
                    env=self._environment(),
                    pass_fds=(tells_ready, watched),
                    # Ctrl-C is for this program; the sidecar hears of it from
                    # stop(), once, or it would let its tasks go.
                    start_new_session=True,
                )
            finally:
                os.close(tells_ready)
                os.close(watched)
            _running.add(self)
            address = self._told(ready)
            self.redis_url = address if self._redis == "embedded" else self._redis
        except BaseException:
            self._kill()
            raise
        finally:
            os.close(ready)

    def stop(self, timeout: Optional[float] = None) -> None:
        """Stop it, and return when workers and Redis have ended.

        It has stop_timeout for that, and some seconds more to hand back what
        did not finish; what is there after timeout seconds, if that is given,
        is killed. Raises SidecarError for any exit status but 0.
        """
        process = self.process
        if process is None:
            return
        if timeout is None:
            timeout = self._stop_timeout + _ROOM_SECONDS
        try:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._kill()
            raise SidecarError(f"the sidecar did not stop within {timeout:.0f} s") from None
        except BaseException:
            # Interrupted while we waited: it must not stay behind.
            self._kill()
            raise
        self._forget()
        if status == _UNAVAILABLE and self._redis == "embedded":
            raise SidecarError(
                "the embedded Redis has ended, and its tasks are lost with it"
                f" (the sidecar ended with status {status})"
            )
        if status != 0:
            raise SidecarError(f"the sidecar ended with status {status}")

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until it has ended, by stop() in another thread or by itself.

        True if it has; False when timeout seconds have passed. stop() is to be
        called all the same, and says how it ended.
        """
        process = self.process
        if process is None:
            return True
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _told(self, ready: int) -> str:
        # The sidecar's lines: warnings, and the last one with the address of its Redis.
        deadline = time.monotonic() + self._start_timeout
        said, text = "", b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([ready], [], [], left)[0]:
                problem = f"the sidecar was not ready within {self._start_timeout:.0f} s"
                raise SidecarError(problem + said)
            chunk = os.read(ready, 4096)
            if not chunk:
                assert self.process is not None
                try:
                    status = self.process.wait(self._stop_timeout + _ROOM_SECONDS)
                except subprocess.TimeoutExpired:
                    raise SidecarError("the sidecar does not end" + said) from None
                problem = f"the sidecar ended with status {status} before it was ready"
                raise SidecarError(problem + said)
            *lines, text = (text + chunk).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if "redis_url" in told:
                    return str(told["redis_url"])
                said = f": {told.get('error') or told.get('warning')}"

    def _environment(self) -> Dict[str, str]:
        env = dict(os.environ)
        # Meant for us, or for a worker that we may be ourselves; the sidecar
        # refuses names that it does not know.
        for name in ("SIDECAR_BIN", "SIDECAR_PROCESS_ID"):
            env.pop(name, None)
        for name in list(env):
            if name.startswith("REDIS_") and name != "REDIS_KEY_PREFIX":
                del env[name]
        env["REDIS_URL"] = self._redis
        # Modules beside the script that runs, for the tasks that use them.
        beside = [sys.path[0]] if sys.path and os.path.isdir(sys.path[0]) else []
        paths: List[str] = beside + [path for path in (env.get("PYTHONPATH"),) if path]
        if paths:
            env["PYTHONPATH"] = os.pathsep.join(paths)
        env.update(self._settings)
        return env

    def _kill(self) -> None:
        process = self.process
        self._forget()
        if process is not None:
            process.kill()
            process.wait()

    def _forget(self) -> None:
        self.process = None
        _running.discard(self)
        self._let_go()

    def _let_go(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            os.close(life)


def _say(text: str) -> None:
    # The body's own exception goes on, and is neither held up by a reader of
    # stderr that has stalled nor replaced by one that is gone.
    if sys.stderr is None:
        return
    try:
        ready = select.poll()
        ready.register(sys.stderr.fileno(), select.POLLOUT)
        if not ready.poll(1000):
            return
    except (AttributeError, OSError, ValueError):
        pass  # no descriptor to wait for: a test collects the text
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


# A process that this one forks must not keep a sidecar alive that is ours.
_running: "weakref.WeakSet[Sidecar]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for sidecar in list(_running):
        sidecar._let_go()


os.register_at_fork(after_in_child=_after_fork_in_child)
