"""A workflow in Python, three of whose tasks are in Go, in Python and in Node.

    fetch (Python) >> (etl.clean (Go) | score (Python) | etl.features (Node)) >> report (Python)

    python flow.py                runs it: Redis is where REDIS_HOST, REDIS_PORT and
                                  REDIS_KEY_PREFIX say, and so are the sidecars
    python flow.py --all-python   runs the same without either, every task in Python

Either way it prints the result of each task, as one line of JSON. Nothing but the
two lines with remote_task differs between the two.
"""

import json
import os
import sys
from typing import Any, Dict

import redis
from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup

from graflow_sidecar import remote_task

TASKS = ("fetch", "etl.clean", "score", "etl.features", "report")
THRESHOLD, LONGEST, TOP = 0.7, 10, 25


@task
def fetch():
    """The texts. (Imports stand in the tasks: workers get the graph, not the files.)"""
    from texts import texts

    return texts(300)


@task
def score(fetch):
    """How hard each text is to read, by its words and sentences."""
    import re
    import sys

    # A print is a line of the sidecar's log, with the task's id and its process.
    print(f"scoring {len(fetch)} texts", file=sys.stderr, flush=True)
    scores = {}
    for record in fetch:
        words = re.findall("[a-z]+", re.sub("<[^<>]*>", " ", record["text"]).lower())
        sentences = max(1, record["text"].count("."))
        letters = sum(len(word) for word in words)
        ease = 471 * letters / len(words) + 50 * len(words) / sentences - 2143
        scores[record["id"]] = round(ease)
    return scores


@task(inject_context=True)
def report(ctx):
    """What the three found, in a few numbers."""
    cleaned, features = ctx.get_result("etl.clean"), ctx.get_result("etl.features")
    scores = ctx.get_result("score")
    kept = [record["id"] for record in cleaned["records"]]
    return {
        "texts": cleaned["stats"]["read"],
        "kept": len(kept),
        "duplicates": len(cleaned["duplicates"]),
        "hardest": max(kept, key=lambda name: (scores[name], name)),
        "mean score": round(sum(scores[name] for name in kept) / len(kept)),
        "words": features["words"],
        "most frequent": features["grams"][0],
    }


def elsewhere() -> ParallelGroup:
    """The tasks in the middle, sent through Redis to their workers."""
    clean = remote_task("etl.clean", inputs=["fetch"], params={"threshold": THRESHOLD})
    features = remote_task(
        "etl.features", inputs={"texts": "fetch"}, params={"longest": LONGEST, "top": TOP}
    )
    return (clean | score | features).with_execution(backend=CoordinationBackend.REDIS)


def here() -> ParallelGroup:
    """The same tasks in this process."""

    @task(id="etl.clean")
    def clean(fetch):
        from twins import clean

        return clean(fetch, THRESHOLD)

    @task(id="etl.features")
    def features(fetch):
        from twins import features

        return features(fetch, LONGEST, TOP)

    return (clean | score | features).with_execution(backend=CoordinationBackend.DIRECT)


def run(all_python: bool) -> Dict[str, Any]:
    """Run the workflow; the results of its tasks."""
    with workflow("etl") as flow:
        middle = here() if all_python else elsewhere()
        fetch >> middle.set_group_name(f"etl-{os.getpid()}") >> report
    if all_python:
        context = ExecutionContext.create(flow.graph, "fetch")
    else:
        client = redis.Redis(
            host=os.environ.get("REDIS_HOST", "localhost"),
            port=int(os.environ.get("REDIS_PORT", "6379")),
            decode_responses=True,
        )
        prefix = os.environ.get("REDIS_KEY_PREFIX", "graflow")
        config = {"redis_client": client, "key_prefix": prefix}
        context = ExecutionContext.create(
            flow.graph, "fetch", channel_backend="redis", config=config
        )
    WorkflowEngine().execute(context)
    return {name: context.get_result(name) for name in TASKS}


if __name__ == "__main__":
    results = run("--all-python" in sys.argv[1:])
    json.dump(results, sys.stdout)
    print()
