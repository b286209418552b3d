"""An example worker: says what a text is like.

Run it with: sidecar run -- python3 worker.py

A record names its text, or a file that the worker can read:

    {"task_id": "text_1", "session_id": "s", "params": {"text": "to be or not to be"}}
    {"task_id": "text_2", "session_id": "s", "params": {"path": "/usr/share/common-licenses/GPL-3"}}

The result tells its size, its most frequent words, how long a person takes to
read it, and how hard that is (the automated readability index: about the
number of school years that it takes).
"""

import re
from collections import Counter

from graflow_sidecar import TaskError, serve

WORDS_A_MINUTE = 238  # silent reading, adults, English prose (Brysbaert 2019)
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")


def handle(task):
    params = task.record.get("params") or {}
    return describe(text_of(params), top=int(params.get("top", 5)))


def text_of(params):
    if isinstance(params.get("text"), str):
        return params["text"]
    if not isinstance(params.get("path"), str):
        raise TaskError("the record needs params.text or params.path", kind="BadRecord")
    try:
        with open(params["path"], encoding="utf-8", errors="replace") as file:
            return file.read()
    except BlockingIOError as error:  # another process holds it: time may mend that
        raise TaskError(str(error), retryable=True) from error


def describe(text, top):
    words = WORD.findall(text)
    sentences = max(1, len(SENTENCE_END.findall(text)))
    count = max(1, len(words))
    letters = sum(map(len, words))
    return {
        "characters": len(text),
        "words": len(words),
        "sentences": sentences,
        "frequent": Counter(word.casefold() for word in words).most_common(top),
        "reading_seconds": round(60 * len(words) / WORDS_A_MINUTE, 1),
        "readability": round(4.71 * letters / count + 0.5 * count / sentences - 21.43, 1),
    }


if __name__ == "__main__":
    serve(handle, name="text-worker", version="1.0")
