"""Signals of the process, and what a fork must not inherit.

SIGINT and SIGTERM (Ctrl-C, a control group's stop) do not cut a task short:
they reach the protocol's reader as bytes in a pipe, at once, also while the
main thread is inside C code. A cancel reaches the main thread as a signal
whose handler raises, since that also ends a sleep or a read.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, Callable, Dict, Optional

try:
    # signal.getsignal spends microseconds on looking for an enum's member.
    from _signal import getsignal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal

STOPS = (signal.SIGINT, signal.SIGTERM)
# Ignored by default, and hardly any program handles it: it is the
# signal that Go's runtime chose for the same purpose.
STRIKE = signal.SIGURG
# As plain numbers: reinstall() runs after every task.
_SIGTERM, _SIGINT, _STRIKE = int(signal.SIGTERM), int(signal.SIGINT), int(STRIKE)


class Signals:
    """The handlers while a worker serves. Only for the main thread."""

    def __init__(self, on_strike: Callable[[], None]) -> None:
        self._on_strike = on_strike
        # One object each, so that "is" can tell them.
        self._stop = self._handle_stop
        self._strike = self._handle_strike
        self.pipe, self._pipe_in = os.pipe()
        os.set_blocking(self.pipe, False)
        os.set_blocking(self._pipe_in, False)
        self._before: Dict[int, Any] = {}
        self._wakeup_before = -1
        self._installed = False

    def install(self) -> None:
        """Take the signals over; without effect outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPS:
            self._before[number] = signal.signal(number, self._stop)
        self._before[STRIKE] = signal.signal(STRIKE, self._strike)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe_in, warn_on_full_buffer=False)
        self._installed = True

    def reinstall(self) -> None:
        """Put the handlers back if the task that just ended has changed them.

        asyncio's add_signal_handler, for one, leaves the default action behind.
        """
        if (
            getsignal(_SIGTERM) is self._stop
            and getsignal(_SIGINT) is self._stop
            and getsignal(_STRIKE) is self._strike
        ):
            return
        if self._installed:
            for number in STOPS:
                signal.signal(number, self._stop)
            signal.signal(STRIKE, self._strike)
            signal.set_wakeup_fd(self._pipe_in, warn_on_full_buffer=False)

    def restore(self) -> None:
        """Give the signals back as they were."""
        if not self._installed:
            return
        self._installed = False
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup_before)

    def abandon(self) -> None:
        """In a forked child: as restore, and let go of the pipe.

        Else a terminate() of multiprocessing would have no effect on it. See
        hold() for one that comes too early.
        """
        self.restore()
        os.close(self.pipe)
        os.close(self._pipe_in)

    def strike(self) -> None:
        """Have on_strike called in the main thread, whatever it waits for."""
        ident = threading.main_thread().ident
        if self._installed and ident is not None:
            signal.pthread_kill(ident, STRIKE)

    def stopped(self) -> bool:
        """Empty the pipe; say whether a stop signal was in it."""
        try:
            numbers = os.read(self.pipe, 4096)
        except BlockingIOError:
            return False
        return any(number in STOPS for number in numbers)

    def _handle_stop(self, number: int, _frame: Optional[Any]) -> None:
        # The wake-up descriptor has told the reader already, unless the task
        # set one of its own.
        try:
            os.write(self._pipe_in, bytes([number]))
        except OSError:
            pass

    def _handle_strike(self, _number: int, _frame: Optional[Any]) -> None:
        self._on_strike()


_held = threading.local()


def hold() -> None:
    """Before a fork: keep stop signals from arriving in this thread.

    One that reached the child before its handlers are put back would be lost.
    """
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def release() -> None:
    """After a fork, in parent and child: let them arrive."""
    mask = getattr(_held, "mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
