"""The page that keeps what was shown, and what is taken out of it."""

import re

RULES = [
    # Ids: of runs and deliveries, which begin with the worker's id.
    (re.compile(r"previews-1-[0-9a-z]{20,}"), "previews-1-RUN"),
    (re.compile(r"(?<=RUN\.)\d+"), "N"),
    # Dates and times of day, however precise.
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "TIME"),
    # How long things took, which is another number each time.
    (re.compile(r"(?<![\w.-])(\d+(\.\d+)?(ns|µs|us|ms|s|m|h))+(?![\w-])"), "…s"),
    (re.compile(r'("[a-z_]*(?:seconds|age|wait|for)": ?)\d+(\.\d+)?'), r"\1…"),
    (re.compile(r'("timestamp": ?)\d+(\.\d+)?'), r"\1…"),
    (re.compile(r'("created_at": ?)\d+(\.\d+)?'), r"\1…"),
    (re.compile(r"\bpid[=: ]*\d+"), "pid=…"),
    (re.compile(r'("pid": ?)\d+'), r"\1…"),
    # Which connection finds out first is chance, and how.
    (re.compile(r'class=conn_\w+ error="[^"]*"'), 'class=conn_…'),
    (re.compile(r"goroutine \d+"), "goroutine …"),
]


class Page:
    def __init__(self, known):
        self.known = known  # words of this run, and what stands for them
        self.parts = []

    def text(self, words):
        self.parts.append(words.strip() + "\n")

    def block(self, shown):
        self.parts.append("```\n" + self.clean(shown) + "\n```\n")

    def command(self, line, output):
        self.parts.append("```\n$ " + self.clean(line) + "\n" + self.clean(output) + "\n```\n")

    def clean(self, shown):
        for word, instead in self.known.items():
            shown = shown.replace(word, instead)
        for pattern, instead in RULES:
            shown = pattern.sub(instead, shown)
        # Columns are as wide as what was in them.
        lines = [re.sub(r" {2,}", "  ", line.rstrip()) for line in shown.strip("\n").split("\n")]
        return "\n".join(lines)

    def whole(self):
        return "\n".join(self.parts)
