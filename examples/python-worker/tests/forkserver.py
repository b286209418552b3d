"""A fork server under test, spoken to by hand; the test is the sidecar."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from typing import Any, Dict, List, Optional

from tests.support import PATIENCE, Worker, environment, until

_PR_SET_CHILD_SUBREAPER = 36
_ROOM = 200


class Forked:
    """As much of a subprocess.Popen as a Worker needs, for a fork."""

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.stdin = open(stdin, "wb")
        self.stdout = open(stdout, "rb")
        self.stderr = open(stderr, "rb")
        self.returncode: Optional[int] = None

    def poll(self) -> Optional[int]:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a fork", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


class ForkServer:
    """A fork server; argv gets the number of its socket's descriptor at its end."""

    def __init__(
        self, argv: List[str], env: Optional[Dict[str, str]] = None, cwd: Optional[str] = None
    ) -> None:
        if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError("no child subreaper")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE)
        mark = {"SIDECAR_PROCESS_ID": "fork_server".ljust(_ROOM, ".")}
        with theirs:
            self.process = subprocess.Popen(
                [*argv, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environment(env), **mark},
                cwd=cwd,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.word: Dict[str, Any] = json.loads(self.control.recv(1 << 16) or b"{}")

    def ask(self, *, parent: Optional[int] = None, accept: bool = True, **env: str) -> Any:
        """The answer to a request, and our ends of the pipes."""
        ours, theirs = [], []
        for number in range(3):
            read, write = os.pipe()
            ours.append(write if number == 0 else read)
            theirs.append(read if number == 0 else write)
        answer, hers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        answer.settimeout(PATIENCE)
        request = {"parent": parent or os.getpid(), "env": env}
        with answer, hers:
            fds = [*theirs, hers.fileno()]
            socket.send_fds(self.control, [json.dumps(request).encode()], fds)
            hers.close()
            for fd in theirs:
                os.close(fd)
            got = json.loads(answer.recv(1 << 16) or b"{}")
            if accept and "pid" in got:
                answer.send(b"\n")
        return got, ours

    def fork(self, **env: str) -> Forked:
        got, ours = self.ask(**env)
        assert "pid" in got, got
        return Forked(got["pid"], *ours)

    def worker(self, greet: bool = True, **env: str) -> Worker:
        return Worker([], process=self.fork(**env), greet=greet)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.communicate()


def gone(pid: int) -> None:
    """Wait until a fork that was not taken over has ended, and reap it."""
    until(lambda: os.waitpid(pid, os.WNOHANG)[0], f"the end of process {pid}")
