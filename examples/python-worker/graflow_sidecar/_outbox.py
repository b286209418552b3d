"""What this worker has to say to the sidecar, in order."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from typing import Deque, Optional


_CROWDED = 10_000


class Outbox:
    """Lines on their way to the sidecar. Safe for any thread.

    post() only notes a line. flush() writes everything noted, in one system
    call where it can; an idle slot calls it. kick() has the writer thread do
    it: the way for callers that must not wait for a slow
    reader, or go on with something long. Task code never writes itself: a
    cancel raises in the middle of whatever it does, and half a line would
    break the protocol.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: Deque[str] = deque()
        # What was printed before, without a line end, is not in front of our first line.
        self._front = "\n"
        self._writing = threading.Lock()
        self._kicks: "queue.SimpleQueue[None]" = queue.SimpleQueue()
        self._kicked = False
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Start the thread behind kick()."""
        self._thread = threading.Thread(target=self._run, name="sidecar-writer", daemon=True)
        self._thread.start()

    def post(self, line: str) -> None:
        """Note a line, which ends with LF; a flush or a kick has to follow."""
        self._lines.append(line)

    def send(self, line: str) -> None:
        """Note a line and have it written soon; for task code.

        Waits while very many lines wait already: a task that logs faster than
        the sidecar reads must not fill the memory.
        """
        if self._fd < 0:
            return  # in a process that a task has forked no thread takes lines away
        self._lines.append(line)
        self.kick()
        while len(self._lines) > _CROWDED:
            time.sleep(0.001)

    def kick(self) -> None:
        """Have what is noted written soon, without waiting for it."""
        if not self._kicked:
            self._kicked = True
            self._kicks.put(None)

    def flush(self) -> None:
        """Write what is noted."""
        lines = self._lines
        while lines:
            with self._writing:
                take = lines.popleft
                data = "".join([take() for _ in range(len(lines))])
                self._write((self._front + data).encode())
                self._front = ""

    def close(self) -> None:
        """Write what is noted, then nothing any more."""
        self.flush()
        with self._writing:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def abandon(self) -> None:
        """In a forked child: let go of the descriptor; locks may be held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._fd >= 0:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError:
                # The sidecar is gone. The end of stdin, which comes with it,
                # is what ends this process.
                return

    def _run(self) -> None:
        while True:
            self._kicks.get()
            self._kicked = False
            self.flush()
