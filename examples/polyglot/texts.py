"""Texts that are the same every time, some of them nearly the same as others."""

import random
from typing import Dict, List

_BEGIN = ["b", "d", "f", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "w"]
_MIDDLE = ["a", "e", "i", "o", "u", "ea", "ou"]
_END = ["", "l", "n", "nd", "r", "s", "st", "th"]


def texts(count: int, seed: int = 9) -> List[Dict[str, str]]:
    """Records of an id and a text with tags, as they come from some crawl."""
    chance = random.Random(seed)

    def word() -> str:
        parts = (chance.choice(_BEGIN), chance.choice(_MIDDLE), chance.choice(_END))
        return "".join(parts) * (1 + (chance.random() < 0.3))

    lexicon = [word() for _ in range(1500)]
    made: List[List[str]] = []
    records = []
    for number in range(count):
        if made and chance.random() < 0.2:  # a copy with a few words changed
            words = list(chance.choice(made))
            for _ in range(chance.randrange(4)):
                words[chance.randrange(len(words))] = chance.choice(lexicon)
        else:
            words = [lexicon[int(1500 * chance.random() ** 3)] for _ in range(90)]
        made.append(words)
        parts = (" ".join(words[at : at + 15]) for at in range(0, len(words), 15))
        text = "\n".join(f"<p>{part.capitalize()}.</p>" for part in parts)
        records.append({"id": f"t{number}", "text": text})
    return records
