"""Splits a stream of bytes into lines of bounded length."""

from __future__ import annotations

from typing import List, Union

# Writers put "id" within the first 256 bytes of a message, so that a message
# that is too long can still be answered.
ID_WINDOW = 256


class TooLong:
    """A line over the limit, skipped whole: its first bytes and its length."""

    __slots__ = ("prefix", "length")

    def __init__(self, prefix: bytes, length: int) -> None:
        self.prefix = prefix
        self.length = length


Line = Union[bytes, TooLong]


class LineSplitter:
    """Cuts chunks into lines, without LF or CRLF, of at most limit bytes.

    The same bytes give the same lines however they are cut into chunks. Memory
    stays within the limit plus one chunk.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: List[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> List[Line]:
        """Take the next bytes; return the lines that they complete."""
        first = chunk.find(b"\n")
        if first < 0:
            self._keep(chunk)
            return []
        self._keep(chunk[:first])
        lines = [self._take()]
        last = chunk.rfind(b"\n")
        if last > first:
            middle = chunk[first + 1 : last].split(b"\n")
            # Nearly always there is nothing to do for each line.
            if len(chunk) > self.limit or b"\r" in chunk:
                lines += [self._finish(line, len(line)) for line in middle]
            else:
                lines += middle
        self._keep(chunk[last + 1 :])
        return lines

    def tail(self) -> bytes:
        """What came after the last line end, at most limit bytes of it."""
        return b"".join(self._parts)[: self.limit]

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._skipping:
            return
        if piece:
            self._parts.append(piece)
        # One byte over may still be the CR of a line of exactly limit bytes.
        if self._size > self.limit + 1:
            self._parts = [self._prefix(b"".join(self._parts))]
            self._skipping = True

    def _take(self) -> Line:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        size = self._size
        self._parts = []
        self._size = 0
        self._skipping = False
        return self._finish(line, size)

    def _finish(self, line: bytes, size: int) -> Line:
        if size <= self.limit + 1 and line.endswith(b"\r"):
            return line[:-1]
        if size > self.limit:
            return TooLong(self._prefix(line), size)
        return line

    def _prefix(self, line: bytes) -> bytes:
        return line[: min(ID_WINDOW, self.limit)]
