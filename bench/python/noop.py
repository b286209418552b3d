"""A task that does nothing, for RQ and Celery."""

import os

from celery import Celery

app = Celery("noop", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True


@app.task
def nothing(record):
    return None


def noop(record):
    return None
