"""Two groups of one workflow, the second under the key prefix that is given."""

import sys

from flow import config, context, finish, run
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.decorators import task
from graflow.core.task import ParallelGroup
from graflow.core.workflow import workflow

OTHER = sys.argv[1]


def member(name):
    @task(id=name)
    def body():
        import os

        return os.environ["WORKER_ID"]

    return body


def group(members, name, prefix):
    where = {**config(), "key_prefix": prefix}
    return ParallelGroup(members, name=name).with_execution(
        backend=CoordinationBackend.REDIS, backend_config=where
    )


with workflow("prefixes") as wf:
    here = [member("here_1"), member("here_2")]
    there = [member("there_1"), member("there_2")]
    group(here, "here", config()["key_prefix"]) >> group(there, "there", OTHER)
    ctx = run(context(wf, "here"))
    finish(ran={m.task_id: ctx.get_result(m.task_id) for m in here + there})
