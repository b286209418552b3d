"""Changes what others see of this process's environment."""

from __future__ import annotations

import os


class Mark:
    """One variable, at the place where /proc/PID/environ shows it.

    That file shows the memory in which the kernel has put the environment at
    the last exec. Nothing that a process sets later appears there, and a fork
    shows what its parent was started with. The sidecar finds the processes that
    a worker left behind by that file. Without a mark of its own, a fork and what
    it forks without an exec (a daemon, multiprocessing) would carry the mark of
    the fork server, and the end of the fork server would kill every worker. So
    the value is overwritten in place. The fork server is started with a value
    that is much longer than any worker's; the entry is the last one of the
    environment, and readers take the zero bytes behind it for its end.
    prctl(PR_SET_MM_ENV_START) would move the place, but needs CAP_SYS_RESOURCE.

    Raises OSError, ImportError or ValueError where that cannot be done.
    """

    def __init__(self, name: str) -> None:
        import ctypes

        with open("/proc/self/stat", "rb") as stat:
            # The name in the second field may hold spaces and brackets.
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[47]), int(fields[48])  # env_start, env_end
        if start == 0 or end <= start:
            raise ValueError("the kernel does not say where the environment is")
        block = b"\0" + ctypes.string_at(start, end - start)
        entry = f"\0{name}=".encode()
        at = block.find(entry)
        if at < 0:
            raise ValueError(f"{name} is not in the environment")
        value = at + len(entry)
        #: The variable.
        self.name = name
        #: How many bytes a value may have.
        self.room = block.index(b"\0", value) - value
        self._address = start + value - 1
        self._move = ctypes.memmove

    def write(self, value: str) -> None:
        """Put value there; ValueError if it has no room."""
        data = os.fsencode(value)
        if len(data) > self.room:
            raise ValueError(f"{self.name} has room for {self.room} bytes, not {len(data)}")
        self._move(self._address, data.ljust(self.room, b"\0"), self.room)
