"""A 6 MB argument and a 6 MB result, by each way that an argument can take."""

import hashlib
import random

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.exceptions import ParallelGroupError

SIZE = 6 * 1024 * 1024
# Letters that zlib cannot shrink much, so that the graph is big in Redis too.
text = random.Random(1).randbytes(SIZE // 2).hex()


def digest(value):
    return hashlib.sha256(value.encode()).hexdigest()


with workflow("big") as wf:

    @task
    def from_channel(blob):
        return blob[::-1]

    @task
    def bound(argument):
        return argument.upper()

    @task
    def far_too_long():
        raise ValueError("y" * SIZE)

    members = [from_channel, bound(task_id="bound_one", argument=text), far_too_long]
    redis_group(members, "big")
    ctx = context(wf, "big", blob=text)
    failed = {}
    try:
        run(ctx)
    except ParallelGroupError as e:
        failed = dict(e.failed_tasks)
    finish(
        failed=sorted(failed),
        error_size=len(failed.get("far_too_long", "")),
        reversed=digest(ctx.get_result("from_channel", "")) == digest(text[::-1]),
        upper=digest(ctx.get_result("bound_one")) == digest(text.upper()),
        size=len(ctx.get_result("bound_one")),
    )
