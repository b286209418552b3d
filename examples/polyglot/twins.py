"""In Python what the workers do in Go and in Node, to compare."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List


def clean(records: List[Dict[str, Any]], threshold: float) -> Dict[str, Any]:
    """etl.clean: the Go worker's own twin."""
    path = Path(__file__).resolve().parent.parent / "go-worker" / "clean" / "clean.py"
    spec = importlib.util.spec_from_file_location("clean", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.clean(records, threshold)


def features(records: List[Dict[str, Any]], longest: int, top: int) -> Dict[str, Any]:
    """etl.features: what features.mjs counts."""
    grams: "Counter[str]" = Counter()
    lengths: "Counter[int]" = Counter()
    for record in records:
        words = re.findall("[a-z]+", re.sub("<[^<>]*>", " ", record["text"]).lower())
        lengths.update(map(len, words))
        line = " ".join(words)
        for size in range(2, longest + 1):
            grams.update(line[at : at + size] for at in range(len(line) - size + 1))
    best = sorted(grams.items(), key=lambda item: (-item[1], item[0]))[:top]
    return {
        "texts": len(records),
        "words": sum(lengths.values()),
        "distinct": len(grams),
        "grams": [list(item) for item in best],
        "lengths": {str(size): lengths[size] for size in sorted(lengths)},
    }
