"""Every way in which a task can fail, as the producer sees it.

Each group is run on its own so that the strict policy's error is seen too. The
output must be the same, byte for byte, whether Graflow's own worker or the
sidecar ran the tasks. Durations, session ids and the order of completions are
kept out of it.
"""

import os

from flow import context, redis_group, run
from graflow.core.decorators import task
from graflow.core.retry import RetryPolicy
from graflow.core.workflow import workflow
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError


class CardDeclined(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code

    def __str__(self):
        return f"card declined with code {self.code}"


@task
def fine():
    return "fine"


@task
def value_error():
    raise ValueError("bad value: 'quoted' \"twice\" \\ done")


@task
def key_error():
    return {}["missing"]


@task
def no_text():
    raise RuntimeError()


@task
def many_lines():
    raise ValueError("first line\nsecond line\r\n\tthird line")


@task
def unicode_text():
    raise ValueError("größer als 😀 \u2028 \x00 end")


@task
def own_class():
    raise CardDeclined(51)


@task
def no_string():
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text for you")

    raise Unprintable()


@task
def surrogate():
    raise OSError("no such file: " + os.fsdecode(b"caf\xe9"))  # not UTF-8


@task
def circular():
    loop = []
    loop.append(loop)
    return loop  # cannot be stored as JSON


@task
def chained():
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise LookupError("while looking") from e


@task
def timeout():
    raise TimeoutError("took too long")


@task
def graflow_error():
    raise GraflowRuntimeError("graflow's own", cause=OSError("disk"))


@task
def long_text():
    raise ValueError("x" * 100_000)


@task(max_retries=2)
def retried():
    raise ValueError("never works")


@task(retry_policy=RetryPolicy(max_retries=1, initial_interval=0.01))
def retried_with_policy():
    raise ValueError("never works either")


@task(inject_context=True)
def cancels(ctx):
    ctx.cancel_workflow("not today")


@task(inject_context=True)
def terminates(ctx):
    ctx.terminate_workflow("enough")  # a normal end: no failure
    return "terminated"


@task(handler="nosuch")
def unknown_handler():
    return "never"


@task
def needs_argument(absent_argument):
    return absent_argument


CASES = [
    value_error,
    key_error,
    no_text,
    many_lines,
    unicode_text,
    own_class,
    no_string,
    surrogate,
    circular,
    chained,
    timeout,
    graflow_error,
    long_text,
    retried,
    retried_with_policy,
    cancels,
    terminates,
    unknown_handler,
    needs_argument,
]

with workflow("errors") as wf:

    @task(inject_context=True, max_cycles=2)
    def cycles(ctx, data=0):  # must be a node of the graph, so it is made in here
        ctx.next_iteration(data + 1)
        ctx.next_iteration(data + 1)

    redis_group([fine, cycles, *CASES], "failing")
    try:
        run(context(wf, "failing"))
        print("no error")
    except ParallelGroupError as e:
        print(f"{type(e).__name__}: {e}")
        for task_id, message in sorted(e.failed_tasks):
            print(f"failed {task_id}: {message!r}")
        print("succeeded", sorted(e.successful_tasks))
