"""A Redis and sidecars around it, as on several machines, for run.py."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List

import redis

PREFIX = "polyglot"
PATIENCE = 120.0  # for whatever takes seconds on a machine that is not busy


class Failure(Exception):
    """One line for the log."""


def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(0.01)


def tool(name: str, variable: str = "") -> str:
    found = shutil.which(os.environ.get(variable, "") or name)
    if found is None:
        hint = f"set {variable}" if variable else f"install {name}"
        raise Failure(f"there is no {name} on PATH: {hint}")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redis_server(port: int) -> Iterator[redis.Redis]:
    with tempfile.TemporaryDirectory() as folder:
        argv = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--dir", folder, "--notify-keyspace-events", "K$h"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        client = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        try:
            until(answers, "Redis")
            yield client
        finally:
            client.close()
            process.kill()
            process.wait()


class Sidecar:
    """A sidecar with workers for some patterns of task ids, and its log."""

    def __init__(
        self,
        name: str,
        port: int,
        workers: Dict[str, str],
        heard: Callable[[Dict[str, Any]], None],
    ) -> None:
        self.name = name
        self.lines: List[str] = []
        self._heard = heard
        argv = [tool("sidecar", "SIDECAR_BIN"), "run"]
        for pattern, command in workers.items():
            argv += ["--worker", f"{pattern}={command}"]
        environment = {
            **plain_environment(),
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(port),
            "REDIS_KEY_PREFIX": PREFIX,
            "WORKER_ID": name,
            "MAX_CONCURRENT_TASKS": "2",
            "SIDECAR_PYTHON": sys.executable,
        }
        # No PYTHONPATH: a worker has what the graph brings with it, and Graflow.
        self.process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise Failure(f"the sidecar {self.name} ended: {''.join(self.lines[-3:]).strip()}")
        return any("sidecar is ready" in line for line in list(self.lines))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(5)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                self._heard({"sidecar": self.name, **json.loads(line)})


def plain_environment() -> Dict[str, str]:
    # What this shell has set must not configure the run by accident.
    ours = ("REDIS", "SIDECAR_", "PYTHON", "WORKER_ID", "MAX_CONCURRENT", "LOG_LEVEL", "POLL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
