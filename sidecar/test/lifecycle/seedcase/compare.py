"""Runs workflow.py with Graflow's own workers and with the sidecar, and compares.

Usage: compare.py [DIRECTORY]: what both runs wrote is kept there.

The exit status is 1 if anything went wrong on the sidecar's side, and 2 if
Graflow's side did not fail, so that there was nothing to compare with.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

SIDES = ("graflow", "sidecar")
# The three of the case; whatever else occurs gets a line as well.
KNOWN = (
    "ValueError: I/O operation on closed file",
    "OSError: [Errno 9] Bad file descriptor",
    "ConnectionRefusedError: [Errno 111] Connection refused",
)
PATIENCE = 120


def run(side):
    """What the workflow wrote, and its exit status."""
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("workflow.py")), side],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        text=True,
    )
    return process.stdout, process.returncode


def errors(output):
    """The last lines of tracebacks, counted. The sidecar's log quotes them."""
    found = Counter()
    for name, text in re.findall(
        r'(?m)(?:^|"line":")([A-Za-z_.]+(?:Error|Exception)): ([^\n"]*)', output
    ):
        whole = f"{name}: {text}"
        short = next((known for known in KNOWN if whole.startswith(known)), name)
        found[short] += 1
    return found


def first(pattern, output):
    match = re.search(pattern, output)
    return match.group(1) if match else "?"


def main(folder):
    outputs, statuses, counts = {}, {}, {}
    for side in SIDES:
        print(f"seed case with {NAMES[side]} …", file=sys.stderr, flush=True)
        outputs[side], statuses[side] = run(side)
        counts[side] = errors(outputs[side])
        if folder is not None:
            (folder / f"{side}.log").write_text(outputs[side])
    tracebacks = {side: outputs[side].count("Traceback (most recent call last)") for side in SIDES}
    shouted = {
        "graflow": len(re.findall(r"(?m)^Error in worker loop", outputs["graflow"])),
        "sidecar": outputs["sidecar"].count('"level":"ERROR"'),
    }
    rows = [
        ("tasks of the workflow done", {s: first(r"done: (.*)", outputs[s]) for s in SIDES}),
        ("tracebacks", tracebacks),
    ]
    names = [*KNOWN, *sorted((counts["graflow"] | counts["sidecar"]).keys() - set(KNOWN))]
    rows += [(f"  {name}", {s: counts[s][name] for s in SIDES}) for name in names]
    rows += [
        ("errors in the worker loop or the log", shouted),
        (
            "from the word to stop to the workers' end",
            {s: first(r"workers stopped after (.*)", outputs[s]) for s in SIDES},
        ),
        ("exit status of the script", statuses),
    ]
    width = max(len(name) for name, _ in rows)
    print(f"{'Redis stopped before the workers':{width}}  {'Graflow':>10}  {'sidecar':>10}")
    for name, values in rows:
        print(f"{name:{width}}  {values['graflow']!s:>10}  {values['sidecar']!s:>10}")

    bad = tracebacks["sidecar"] + sum(counts["sidecar"].values()) + shouted["sidecar"]
    if bad or statuses["sidecar"] != 0 or rows[0][1]["sidecar"] != "6 of 6":
        print("\nFAILED: the sidecar's side is not clean; it wrote:\n" + outputs["sidecar"])
        return 1
    if not tracebacks["graflow"]:
        print("\nGraflow's side did not fail this time: nothing was compared")
        return 2
    return 0


NAMES = {"graflow": "Graflow's own workers", "sidecar": "the sidecar"}

if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
    sys.exit(main(target))
