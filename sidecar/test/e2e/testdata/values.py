"""Results of every kind, as the bytes that a worker leaves in the channel."""

from datetime import datetime

from flow import client, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

VALUES = {
    "none": lambda: None,
    "true": lambda: True,
    "big": lambda: 2**70,
    "beyond_double": lambda: 2**53 + 1,
    "float": lambda: 0.1 + 0.2,
    "nan": lambda: float("nan"),
    "infinities": lambda: [float("inf"), float("-inf")],
    "text": lambda: "größer 😀 \u2028 \x00 \udcff </script>",
    "nested": lambda: {"a": [1, {"b": ()}], "1": {2: 3}},
    "not_json": lambda: {"when": datetime(2024, 2, 29), "raw": b"\x00\xff"},
    "empty": lambda: "",
}

with workflow("values") as wf:

    def giving(name, make):
        @task(id=name)
        def body():
            return make()

        return body

    redis_group([giving(name, make) for name, make in VALUES.items()], "values")
    ctx = run(context(wf, "values"))
    channel = f"graflow:channel:{ctx.session_id}:"
    finish(raw={name: client().get(f"{channel}{name}.__result__") for name in VALUES})
