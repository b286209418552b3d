"""Sidecar(): Redis and workers for the time of a with statement."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type

# For the sidecar's own watchdog, after its budget for a stop.
_ROOM_SECONDS = 5.0
_ATTEMPTS = 3
_REFUSALS = (64, 78)  # usage, configuration


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
    binary is the sidecar's program; else SIDECAR_BIN or "sidecar" on PATH. env
    adds to the environment: any of the sidecar's settings. Timeouts are in
    seconds; stop_timeout is what tasks that run at the end have to finish.

    On the way out workers finish what they run, and Redis stops last, also when
    the body raised; its exception then goes on. A sidecar that ends badly raises
    SidecarError, but never in place of the body's own exception.
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
        self.redis_url = ""
        #: The running sidecar, None outside the with statement.
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self._redis = redis
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._argv = [_find(binary), "run"]
        self._argv += ["--graflow"] if command is None else ["--", *command]
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
            print(f"graflow_sidecar: {problem}", file=sys.stderr)

    def start(self) -> None:
        """Start it and wait until its Redis answers.

        Raises SidecarError if it ends or takes too long.
        """
        if self.process is not None:
            raise SidecarError("the sidecar is running already")
        embedded = self._redis == "embedded"
        for _ in range(_ATTEMPTS):
            port = _free_port() if embedded else 0
            self.redis_url = f"redis://127.0.0.1:{port}/0" if embedded else self._redis
            process = self.process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                env=self._environment(port),
                # Ctrl-C is for this program; the sidecar hears of it from
                # stop(), once, or it would let its tasks go.
                start_new_session=True,
            )
            try:
                if not embedded or self._answers(process, port):
                    return
            except BaseException:
                self._kill()
                raise
            self.process = None
            # The port was free when it was chosen, and somebody may have been
            # faster. A wrong setting stays wrong.
            if process.returncode in _REFUSALS:
                break
        raise SidecarError(
            f"the sidecar ended with status {process.returncode} before its Redis was up"
        )

    def stop(self) -> None:
        """Stop it, and return when workers and Redis have ended.

        Raises SidecarError for any exit status but 0.
        """
        process = self.process
        if process is None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            status = process.wait(self._stop_timeout + _ROOM_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            raise SidecarError(
                f"the sidecar did not stop within {self._stop_timeout:.0f} s"
            ) from None
        except BaseException:
            # Interrupted while we waited: it must not stay behind.
            self._kill()
            raise
        self.process = None
        if status != 0:
            raise SidecarError(f"the sidecar ended with status {status}")

    def _environment(self, port: int) -> Dict[str, str]:
        env = dict(os.environ)
        # Meant for us, or for a worker that we may be ourselves; the sidecar
        # refuses names that it does not know.
        for name in ("SIDECAR_BIN", "SIDECAR_PROCESS_ID"):
            env.pop(name, None)
        for name in list(env):
            if name.startswith("REDIS_") and name != "REDIS_KEY_PREFIX":
                del env[name]
        env["REDIS_URL"] = self._redis
        if port:
            env["REDIS_PORT"] = str(port)
        # Modules beside the script that runs, for the tasks that use them.
        beside = [sys.path[0]] if sys.path and os.path.isdir(sys.path[0]) else []
        paths: List[str] = beside + [path for path in (env.get("PYTHONPATH"),) if path]
        if paths:
            env["PYTHONPATH"] = os.pathsep.join(paths)
        env.update(self._settings)
        return env

    def _answers(self, process: "subprocess.Popen[bytes]", port: int) -> bool:
        # Whether Redis came up; False if the sidecar ended first.
        deadline = time.monotonic() + self._start_timeout
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return False
            if _pong(port):
                return process.poll() is None
            time.sleep(0.02)
        raise SidecarError(f"the sidecar's Redis was not up within {self._start_timeout:.0f} s")

    def _kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


def _find(binary: Optional[str]) -> str:
    name = binary or os.environ.get("SIDECAR_BIN") or "sidecar"
    found = shutil.which(name)
    if found is None:
        raise SidecarError(
            f"there is no {name}: pass binary=, set SIDECAR_BIN, or put the sidecar on PATH"
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: Any = probe.getsockname()[1]
        return int(port)


def _pong(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
