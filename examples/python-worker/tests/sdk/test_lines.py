import random
import unittest

from graflow_sidecar._lines import LineSplitter, TooLong


def split(data: bytes, limit: int, cuts) -> list:
    splitter = LineSplitter(limit)
    lines = []
    start = 0
    for cut in [*cuts, len(data)]:
        lines += splitter.feed(data[start:cut])
        start = cut
    return [
        ("long", line.prefix, line.length) if isinstance(line, TooLong) else line for line in lines
    ] + [("tail", splitter.tail())]


class Lines(unittest.TestCase):
    def test_table(self):
        for name, data, limit, want in [
            ("one", b"abc\n", 10, [b"abc", b""]),
            ("crlf", b"abc\r\nd\r\n", 10, [b"abc", b"d", b""]),
            ("cr inside", b"a\rb\n", 10, [b"a\rb", b""]),
            ("only one cr goes", b"ab\r\r\n", 10, [b"ab\r", b""]),
            ("empty lines", b"\n\r\n\n", 10, [b"", b"", b"", b""]),
            ("tail", b"abc\nde", 10, [b"abc", b"de"]),
            ("exactly the limit", b"12345\nx\n", 5, [b"12345", b"x", b""]),
            ("limit and crlf", b"12345\r\nx\n", 5, [b"12345", b"x", b""]),
            ("one over", b"123456\nx\n", 5, [("long", b"12345", 6), b"x", b""]),
            ("far over", b"1" * 999 + b"\nx\n", 5, [("long", b"11111", 999), b"x", b""]),
            ("the prefix", b"2" * 999 + b"\n", 500, [("long", b"2" * 256, 999), b""]),
            ("long tail", b"1234567", 5, [b"12345"]),
        ]:
            *lines, tail = want
            with self.subTest(name):
                self.assertEqual(split(data, limit, []), [*lines, ("tail", tail)])

    def test_any_chunking_gives_the_same_lines(self):
        rng = random.Random(7)
        for _ in range(2000):
            data = bytes(rng.choice(b"ab\r\n\n") for _ in range(rng.randrange(40)))
            limit = rng.randrange(1, 12)
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
            with self.subTest(data=data, limit=limit, cuts=cuts):
                self.assertEqual(split(data, limit, cuts), split(data, limit, []))

    def test_memory_stays_bounded(self):
        splitter = LineSplitter(1000)
        for _ in range(1000):
            self.assertEqual(splitter.feed(b"x" * 1000), [])
            self.assertLessEqual(sum(map(len, splitter._parts)), 2001)
        (line, good) = splitter.feed(b"\ngood\n")
        self.assertEqual((line.length, good), (1_000_000, b"good"))


if __name__ == "__main__":
    unittest.main()
