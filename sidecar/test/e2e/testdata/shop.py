"""A module that workers can import: its tasks are pickled by reference."""

from graflow.core.decorators import task

CALLS = []


def vat(amount):
    return round(amount * 1.19, 2)


@task
def price():
    CALLS.append("price")  # the worker's own copy of this module
    return [vat(100), __name__]


@task(inject_context=True)
def shipping(ctx, country="DE"):
    return [country, ctx.task_id, __name__]
