"""A fork server: imports Graflow once, and forks a worker whenever it is asked.

Importing Graflow is most of what the start of a worker costs, in time and in
memory. The fork server does it once, without ever starting a thread or opening a
connection, and each fork of it then goes on as a worker that was just started.

It serves one socket (SOCK_SEQPACKET) that it inherits. It says first whether it
is fit, in one JSON packet; then each packet is a request: a JSON object with
the sidecar's pid and the changes to the environment, and the child's stdin,
stdout and stderr and a socket for the answer by SCM_RIGHTS. The answer is the
child's pid, or what went wrong; the child goes on when the sidecar has answered
that with a byte, which is after it has taken the child over. The end of the
socket is the end of the fork server.

It forks twice: the first fork ends at once, so that the kernel gives the second
to the sidecar, which is a child subreaper and waits for it as for any child of
its own.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from . import _stdio
from ._mark import Mark

_MAX_PACKET = 1 << 18
_FDS = 4  # stdin, stdout, stderr, answer
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Of a whole control group's stop the workers are to hear: they have tasks to finish.
# The fork between is ours to wait for, also where an import has another use for the
# ends of children.
_HANDLERS = {
    signal.SIGINT: signal.SIG_IGN,
    signal.SIGTERM: signal.SIG_IGN,
    signal.SIGCHLD: signal.SIG_DFL,
}
_PR_SET_PDEATHSIG = 1
# Between two looks at whether the sidecar has adopted us.
_ADOPTION_PAUSE = 0.0002


class Refused(Exception):
    """A fork that was not made, or not finished, and why."""


def run(fd: int, preload: Callable[[], None], main: Callable[[], None]) -> None:
    """Serve the socket fd until it ends; in every fork, return from main instead."""
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    _own_stdio()
    if not faulthandler.is_enabled():
        faulthandler.enable()
    handlers: Dict[signal.Signals, Any] = {}
    _take_signals(handlers)
    gc.disable()
    problem = ""
    try:
        preload()
    except Exception as exc:
        # Imports do not always fail in the same way when they are tried again,
        # as a fork would: let a new process tell what is wrong.
        problem = f"{type(exc).__name__}: {exc}"
    # An import may have handlers of its own, which a new process would have, too.
    _take_signals(handlers)
    gc.collect()
    # What is here now is never looked at by a child's collector, and so is
    # never written to: the pages stay shared.
    gc.freeze()
    fork_server = _ForkServer(control, handlers)
    if fork_server.serve(problem or fork_server.prepare()):
        main()


class _ForkServer:
    def __init__(self, control: socket.socket, handlers: Dict[signal.Signals, Any]) -> None:
        self._control = control
        self._handlers = handlers  # what forks have in the place of ours
        self._mark: Optional[Mark] = None
        self._prctl: Any = None

    def prepare(self) -> str:
        """Say why there can be no forks, or nothing."""
        try:
            self._prctl = _prctl()
            self._mark = Mark("SIDECAR_PROCESS_ID")
            return unsupported(self._control.fileno())
        except (ImportError, AttributeError, OSError, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"

    def serve(self, problem: str) -> bool:
        """Answer requests; True in a child, False at the end."""
        try:
            self._control.send(json.dumps({"pid": os.getpid(), "problem": problem}).encode())
            while True:
                packet, fds, _, _ = socket.recv_fds(
                    self._control, _MAX_PACKET, _FDS, socket.MSG_CMSG_CLOEXEC
                )
                if not packet or problem:
                    _close(fds)
                    return False
                if self._serve_one(packet, fds):
                    return True
        except ConnectionError:
            return False  # the sidecar is gone

    def _serve_one(self, packet: bytes, fds: List[int]) -> bool:
        """Make one child; True in that child."""
        if len(fds) != _FDS:
            _close(fds)
            return False
        answer = socket.socket(fileno=fds.pop())
        is_child = False
        try:
            is_child = self._fork(json.loads(packet), fds, answer)
        except (Refused, OSError, ValueError, KeyError) as exc:
            _tell(answer, {"error": str(exc)})
        finally:
            # Ours, or in the child what it has no more use for: a child that
            # held the pipes of another would keep that one's end from showing.
            _close(fds)
            answer.close()
        return is_child

    def _fork(self, request: Dict[str, Any], fds: List[int], answer: socket.socket) -> bool:
        if _threads() != 1:
            raise Refused(f"{_threads()} threads run in it by now, and a fork has only one")
        sys.stdout.flush()
        sys.stderr.flush()
        # A stop that reaches the child before it has handlers of its own must
        # wait, not be lost to ours.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        first = -1
        try:
            first = os.fork()
            if first == 0:
                self._second(request, fds, answer)
            else:
                _, status = os.waitpid(first, 0)
                code = os.waitstatus_to_exitcode(status)
                if code != 0:
                    why = os.strerror(code) if code > 0 else f"signal {-code}"
                    raise Refused(f"the second fork failed: {why}")
        finally:
            if first != 0:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return first == 0

    def _second(self, request: Dict[str, Any], fds: List[int], answer: socket.socket) -> None:
        # In the first fork, and then in the second, which alone returns.
        try:
            first = os.getpid()
            if os.fork() != 0:
                os._exit(0)
        except BaseException as exc:
            os._exit(getattr(exc, "errno", None) or 1)
        try:
            self._control.close()
            self._settle(first, int(request["parent"]))
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
            self._rename(request["env"])
            _tell(answer, {"pid": os.getpid()})
            if not answer.recv(1):
                os._exit(0)  # the sidecar has given the fork up
            _refresh(self._handlers)
        except BaseException as exc:
            _tell(answer, {"error": f"{type(exc).__name__}: {exc}"})
            os._exit(1)

    def _settle(self, first: int, parent: int) -> None:
        """Become the sidecar's child, as one that it had started itself."""
        while os.getppid() == first:
            time.sleep(_ADOPTION_PAUSE)
        os.setsid()  # a process group, and no terminal
        # Not before: the signal is also sent when a parent goes and another
        # takes its place.
        if self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise Refused("the parent-death signal cannot be set")
        if os.getppid() != parent:
            raise Refused(f"process {os.getppid()} has adopted the fork, not the sidecar")

    def _rename(self, changes: Dict[str, Optional[str]]) -> None:
        for name, value in changes.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._mark is not None:
            self._mark.write(os.environ.get(self._mark.name, ""))


def _take_signals(handlers: Dict[signal.Signals, Any]) -> None:
    """Set our handlers; note in handlers what the forks have in their place."""
    for number, ours in _HANDLERS.items():
        before = signal.signal(number, ours)
        if number not in handlers or before != ours:
            handlers[number] = before


def _refresh(handlers: Dict[signal.Signals, Any]) -> None:
    """What a fork has from its parent and a new process would have of its own.

    random, logging, tempfile, threading and redis see to themselves.
    """
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    # Of an import, or of the program that has started the sidecar: a worker that
    # blocks a signal cannot be stopped by it.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _stdio._taken = None
    renew = getattr(threading.main_thread(), "_set_native_id", None)
    if renew is not None:
        renew()  # Python leaves it as it was
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    # Folders may have changed since the fork server looked into them.
    importlib.invalidate_caches()
    gc.enable()


def unsupported(control: int) -> str:
    """Why this process must not be forked, or nothing.

    A lock that another thread holds is never released in a fork, and a
    connection would be every child's at once.
    """
    threads = _threads()
    if threads != 1 or threading.active_count() != 1:
        names = ", ".join(sorted(thread.name for thread in threading.enumerate()))
        return f"its imports started threads ({threads} run; Python knows {names})"
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing itself
        shared = target.startswith("socket:") or target == "anon_inode:[eventpoll]"
        if shared and int(name) != control:
            return f"its imports opened a connection (descriptor {name} is {target})"
    return ""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _own_stdio() -> None:
    # As in a worker, prints go to the log, and there is no input to read.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    _stdio.every_line(sys.stdout)
    _stdio.every_line(sys.stderr)


def _prctl() -> Any:
    import ctypes

    return ctypes.CDLL(None).prctl


def _tell(answer: socket.socket, message: Dict[str, Any]) -> None:
    try:
        answer.sendall(json.dumps(message).encode())
    except OSError:
        pass  # it waits no more


def _close(fds: List[int]) -> None:
    for fd in fds:
        os.close(fd)
