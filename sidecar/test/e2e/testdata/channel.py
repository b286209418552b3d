"""Channel operations inside worker tasks, several tasks at a time."""

import redis as redis_module
from flow import HOST, PORT, client, context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

N = 6

with workflow("channel") as wf:

    def member(i):
        @task(id=f"member_{i}", inject_context=True)
        def body(ctx):
            channel = ctx.get_channel()
            channel.set(f"set_{i}", {"from": i})
            channel.set("short", i, ttl=1000)
            channel.append("log", i)
            channel.prepend("reversed", i)
            channel.atomic_add("sum", i)
            channel.atomic_add("half", 0.5)
            # Only the lock makes this read, think, write sequence safe.
            with channel.lock("counter", timeout=20):
                raw = redis_module.Redis(host=HOST, port=PORT)
                key = f"graflow:channel:{ctx.session_id}:counter"
                before = int(raw.get(key) or 0)
                raw.publish("thinking", "")
                raw.set(key, before + 1)
            found = channel.get(f"set_{i}")
            absent = channel.get("absent", "nothing")
            deleted = channel.delete(f"set_{i}") and not channel.exists(f"set_{i}")
            return [found, absent, deleted, "log" in channel.keys(), channel.get("greeting")]

        return body

    redis_group([member(i) for i in range(N)], "channel")
    ctx = run(context(wf, "channel", greeting="hello"))
    raw = client()
    key = f"graflow:channel:{ctx.session_id}:"
    finish(
        results=[ctx.get_result(f"member_{i}") for i in range(N)],
        log=sorted(raw.lrange(key + "log", 0, -1)),
        reversed=sorted(raw.lrange(key + "reversed", 0, -1)),
        sum=raw.get(key + "sum"),
        half=raw.get(key + "half"),
        counter=raw.get(key + "counter"),
        short_ttl=raw.ttl(key + "short") > 0,
        locks=list(raw.scan_iter(key + "lock:*")),
    )
