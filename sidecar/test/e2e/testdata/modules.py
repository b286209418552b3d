"""Tasks of an imported module beside tasks of __main__, in one group."""

import shop
from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

RATE = 3


def helper(n):
    return n * RATE


class Parcel:
    def __init__(self, weight):
        self.weight = weight


@task
def in_main():
    return [helper(Parcel(14).weight), __name__]


with workflow("modules") as wf:
    members = [shop.price, shop.shipping, in_main]
    redis_group(members, "modules")
    ctx = run(context(wf, "modules"))
    finish(results={member.task_id: ctx.get_result(member.task_id) for member in members}, here=shop.CALLS)
