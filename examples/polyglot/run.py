"""Runs the workflow of flow.py in Go, Python and Node, and in Python alone.

It starts a Redis, two sidecars as on two machines, one with the workers in Go and
in Python and one with those in Node and in Python, and a producer; kills the worker
that runs one of the tasks, in the middle of it, with SIGKILL; looks into Redis from
outside for what became of that; and compares all results with those of the same
workflow in one Python process.

    python run.py [--kill etl.features|score|none] [--json]

It takes the sidecar from SIDECAR_BIN and the Go worker from GO_WORKER, both built
before (`make polyglot` does), and node and redis-server from PATH. The exit status
is 1 if anything differs or a task's result was stored twice.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import redis

from machines import PATIENCE, PREFIX, Failure, Sidecar, free_port, plain_environment
from machines import redis_server, tool, until

HERE = Path(__file__).resolve().parent
LANGUAGES = {
    "fetch": "Python",
    "etl.clean": "Go",
    "score": "Python",
    "etl.features": "Node",
    "report": "Python",
}


class Witness:
    """What happened, as it looks from outside: the sidecars' logs and Redis."""

    def __init__(self, victim: str) -> None:
        self._victim = victim
        self.killed: Optional[Dict[str, Any]] = None
        self.ran: Dict[str, List[int]] = {}
        self._events: Dict[str, int] = {}

    def heard(self, line: Dict[str, Any]) -> None:
        """Note which process runs a task, and kill the first one that has begun with the victim."""
        if line.get("msg") not in ("worker log", "worker stderr") or "task_id" not in line:
            return
        name, pid = line["task_id"], line["pid"]
        begins = line["line"].startswith(("counting", "scoring"))
        if name == self._victim and begins and self.killed is None:
            os.kill(pid, signal.SIGKILL)
            self.killed = {"task": name, "pid": pid, "sidecar": line["sidecar"]}
        seen = self.ran.setdefault(name, [])
        if pid not in seen:
            seen.append(pid)

    @contextlib.contextmanager
    def watching(self, client: redis.Redis) -> Iterator[None]:
        """Count what is done to results and to the group's barrier."""
        watch = client.pubsub()
        watch.psubscribe(
            "__keyspace@0__:graflow:channel:*.__result__", f"__keyspace@0__:{PREFIX}:barrier:*"
        )
        try:
            yield
            while True:
                message = watch.get_message(timeout=0.5)
                if message is None:
                    break
                if message["type"] == "pmessage":
                    key = message["channel"].partition(":")[2]
                    what = f"{message['data']} {key.rpartition(':')[2]}"
                    self._events[what] = self._events.get(what, 0) + 1
        finally:
            watch.close()

    def stored(self, name: str) -> int:
        """How often a result of that task was stored."""
        return self._events.get(f"set {name}.__result__", 0)

    def counted(self) -> int:
        """How many tasks were counted at the group's barrier."""
        return sum(n for what, n in self._events.items() if what.startswith("incrby etl-"))


def produce(*arguments: str, **environment: str) -> Dict[str, Any]:
    """Run flow.py to its end; the results of the tasks, and the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(HERE / "flow.py"), *arguments],
        env={
            **plain_environment(),
            "PYTHONPATH": str(HERE.parent / "python-worker"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise Failure(f"flow.py failed: {done.stderr.strip()[-2000:]}")
    return {"results": json.loads(done.stdout), "seconds": time.monotonic() - began}


def run(victim: str) -> Dict[str, Any]:
    """Everything; what is to be told."""
    port = free_port()
    go = tool("go-worker", "GO_WORKER")
    node = f"{tool('node')} {HERE / 'features.mjs'}"
    witness = Witness(victim)
    with redis_server(port) as client, contextlib.ExitStack() as stack:
        places = {
            "east": {"etl.clean*": go, "score": "graflow"},
            "west": {"etl.features*": node, "score": "graflow"},
        }
        sidecars = [Sidecar(n, port, workers, witness.heard) for n, workers in places.items()]
        for sidecar in sidecars:
            stack.callback(sidecar.stop)
        for sidecar in sidecars:
            until(sidecar.ready, f"the sidecar {sidecar.name}")
        with witness.watching(client):
            there = produce(REDIS_HOST="127.0.0.1", REDIS_PORT=str(port), REDIS_KEY_PREFIX=PREFIX)
        left = client.llen(f"{PREFIX}:queue")
    here = produce("--all-python")
    tasks = {
        name: {
            "language": language,
            "equal": there["results"][name] == here["results"][name],
            "stored": witness.stored(name),
        }
        for name, language in LANGUAGES.items()
    }
    return {
        "tasks": tasks,
        "report": there["results"]["report"],
        "killed": witness.killed,
        "ran": witness.ran,
        "counted": witness.counted(),
        "left": left,
        "seconds": {"polyglot": there["seconds"], "python": here["seconds"]},
        "sidecars": {s.name: s.process.returncode for s in sidecars},
        "log": [line for s in sidecars for line in s.lines],
    }


def wrong(found: Dict[str, Any], victim: str) -> List[str]:
    """What is not as it should be."""
    said = [f"{name}: the results differ" for name, t in found["tasks"].items() if not t["equal"]]
    said += [
        f"{name}: its result was stored {t['stored']} times"
        for name, t in found["tasks"].items()
        if t["stored"] != 1
    ]
    if found["counted"] != 3:
        said.append(f"{found['counted']} tasks were counted at the barrier of 3")
    if victim != "none" and len(found["ran"].get(victim, [])) != 2:
        pids = found["ran"].get(victim)
        said.append(f"{victim} was run by the processes {pids}, and should be by two")
    if found["left"]:
        said.append(f"{found['left']} records are left in the queue")
    said += [f"the sidecar {n} ended with {code}" for n, code in found["sidecars"].items() if code]
    return said


def show(found: Dict[str, Any]) -> None:
    print(f"{'task':14}{'language':10}{'run by':18}{'result stored':15}as in Python")
    for name, t in found["tasks"].items():
        pids = " ".join(map(str, found["ran"].get(name, [])))
        equal = "equal" if t["equal"] else "DIFFERENT"
        print(f"{name:14}{t['language']:10}{pids:18}{t['stored']!s:15}{equal}")
    killed = found["killed"]
    if killed:
        print(
            f"\nprocess {killed['pid']} of the sidecar {killed['sidecar']} was killed (SIGKILL)"
            f" in the middle of {killed['task']}"
        )
    print(f"tasks counted at the barrier of 3: {found['counted']}")
    there, here = found["seconds"]["polyglot"], found["seconds"]["python"]
    print(f"seconds: {there:.1f} here, {here:.1f} all in Python")
    print(f"the report: {json.dumps(found['report'])}")


def main() -> int:
    parser = argparse.ArgumentParser(description="the polyglot workflow, with a worker killed")
    parser.add_argument("--kill", default="etl.features", choices=["etl.features", "score", "none"])
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    options = parser.parse_args()
    try:
        found = run(options.kill)
    except Failure as exc:
        print(f"polyglot: {exc}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    faults = wrong(found, options.kill)
    for line in faults:
        print(f"polyglot: {line}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
