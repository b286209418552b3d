"""Takes the protocol's two file descriptors away from the program.

The sidecar speaks over this process's standard input and output. A print, a
C library's printf or a task that reads its input must not get in between, so
both are moved to private descriptors before anything else runs: descriptor 1
then leads to stderr (the log) and descriptor 0 to /dev/null. Moving the
descriptors, not only sys.stdout, is what also covers C code and children.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional, Tuple

_taken: Optional[Tuple[int, int]] = None


def take_stdio() -> Tuple[int, int]:
    """Move standard input and output away; return (read fd, write fd).

    A second call returns the same pair. serve() calls it; a worker whose
    imports print may call it first, before those imports. The descriptors are
    close-on-exec, so programs that a task starts do not hold the pipes open.
    """
    global _taken
    if _taken is not None:
        return _taken
    # At least 10, so that the low numbers, which programs like to assume
    # things about, stay as they were.
    read_fd = _duplicate(0)
    write_fd = _duplicate(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != 0:
        os.close(null)
    os.dup2(_usable_stderr(), 1)
    # After the move: what an import has printed and not yet flushed goes to
    # the log too.
    every_line(sys.stdout)
    every_line(sys.stderr)
    _utf8(sys.stdin)
    _taken = (read_fd, write_fd)
    return _taken


def abandon() -> None:
    """In a forked child: let go of the input, and take nothing of it for our own."""
    global _taken
    if _taken is not None:
        os.close(_taken[0])
        _taken = None


def _duplicate(fd: int) -> int:
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    except OSError:
        # Not open at all: an input that has ended, an output without a reader.
        return fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, 10)


def _usable_stderr() -> int:
    try:
        os.fstat(2)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return 2


def every_line(stream: Any) -> None:
    """Have a text stream write each line at once, so that none is lost with the process."""
    # In place: a logging handler made earlier holds this very object.
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    elif hasattr(stream, "flush"):
        stream.flush()


def _utf8(stream: Any) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
