"""The task etl.clean in Python, record for record what clean.go does.

As a module it has clean(records, threshold), for a workflow that is to run without
the Go worker. As a program it reads records from stdin, as JSON, and writes the
result to stdout and the seconds that the step took to stderr.
"""

import json
import re
import sys
import time
import zlib

SHINGLE = 3
BANDS, ROWS = 32, 4
MASK = (1 << 64) - 1

_TAG = re.compile("<[^<>]*>")
_BLANK = re.compile("[\t\n\v\f\r]")
_SPACES = re.compile(" +")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_WORD = re.compile("[0-9a-z\u0080-\U0010ffff]+")
_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def _hashes():
    """The functions h -> a*h + b modulo 2^64: SplitMix64 from seed 1."""
    state = 1

    def following():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    return [(following() | 1, following()) for _ in range(BANDS * ROWS)]


_HASHES = _hashes()


def plain(text):
    """The text without tags, control characters and white space beyond one space."""
    # Half a surrogate pair, which is no character, is U+FFFD in other languages.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _TAG.sub(" ", text)
    text = _CONTROL.sub("", _BLANK.sub(" ", text))
    return _SPACES.sub(" ", text).strip(" ")


def words(text):
    return _WORD.findall(text.translate(_LOWER))


def shingles(words):
    count = max(1, len(words) - SHINGLE + 1)
    return {zlib.crc32(" ".join(words[i : i + SHINGLE]).encode()) for i in range(count)}


def signature(shingles):
    return [min([(a * h + b) & MASK for h in shingles]) for a, b in _HASHES]


def likeness(a, b):
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def clean(records, threshold=0.8):
    """Strips the records' texts, and leaves out those that are like an earlier one."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be above 0, and 1 at most")
    kept, places, sets, duplicates = [], [], [], []
    bands = [{} for _ in range(BANDS)]
    stats = {"read": len(records), "kept": 0, "duplicates": 0, "empty": 0, "words": 0, "bytes": 0}
    for index, record in enumerate(records):
        if not isinstance(record.get("text"), str):
            raise ValueError(f'record {index} has no string "text"')
        text = plain(record["text"])
        of_text = words(text)
        if not of_text:
            stats["empty"] += 1
            continue
        members = shingles(of_text)
        sig = signature(members)
        keys = [tuple(sig[i * ROWS : (i + 1) * ROWS]) for i in range(BANDS)]
        candidates = {n for band, key in zip(bands, keys) for n in band.get(key, ())}
        for n in sorted(candidates):
            like = likeness(members, sets[n])
            if like >= threshold:
                duplicates.append({"index": index, "of": places[n], "likeness": like})
                break
        else:
            for band, key in zip(bands, keys):
                band.setdefault(key, []).append(len(sets))
            sets.append(members)
            places.append(index)
            kept.append({**record, "text": text})
            stats["words"] += len(of_text)
            stats["bytes"] += len(text.encode())
    stats["kept"], stats["duplicates"] = len(kept), len(duplicates)
    return {"records": kept, "duplicates": duplicates, "stats": stats}


def main():
    records = json.load(sys.stdin)
    began = time.perf_counter()
    result = clean(records)
    seconds = time.perf_counter() - began
    json.dump(result, sys.stdout)
    print(seconds, file=sys.stderr)


if __name__ == "__main__":
    main()
