"""The incidents: what goes wrong, what is seen, and what is done."""

import json
import os
import time

from stage import wait


def records(group, files):
    """One group's records, as a producer pushes them, and what it waits for."""
    return [
        json.dumps({"task_id": f"preview_{name}", "session_id": group, "group_id": group, "created_at": int(time.time()) + 0.5,
                    "params": {"file": name}})
        for name in files
    ]


def push(setup, group, *files):
    setup.redis.cli("SET", f"graflow:barrier:{group}:expected", str(len(files)))
    setup.redis.cli("RPUSH", "graflow:queue", *records(group, files))


def counted(setup, group):
    return setup.redis.cli("GET", f"graflow:barrier:{group}").strip()


def redis_is_gone(setup):
    s, page = setup.sidecar, setup.page
    page.text("## Redis outage\n\nRedis is killed while tasks run.")
    s.logged("sidecar is ready", show=False)
    open(setup.path("busy"), "w").close()
    push(setup, "first", "a.pdf", "large.pdf")
    wait("the first task", lambda: counted(setup, "first") == "1")
    s.metrics('graflow_sidecar_children{state="serving"} 2', "graflow_sidecar_tasks_in_flight 1", show=False)
    setup.redis.kill()
    page.text("The log says so once, and then every 10 s:")
    s.logged("redis is lost, waiting for it")
    os.remove(setup.path("busy"))
    page.text("The sidecar is not ready, and says why. The task that ran has ended, and its result is kept:")
    s.ready(503)
    s.metrics("graflow_sidecar_redis_up 0", "graflow_sidecar_reports_pending 1")
    page.text("The commands ask Redis and so cannot help now; they say what to do:")
    s.run("status", status=75)
    page.text("""
**What to do:** [get Redis back](operations.md#redis-outage). The sidecar needs
nothing: it does not end, and must not be restarted. Redis is started again:
""")
    setup.redis.start()
    s.logged("redis is back")
    page.text("The result that was kept is in Redis, and the group is complete:")
    wait("the first group", lambda: counted(setup, "first") == "2")
    setup.redis.show("GET", "graflow:barrier:first")
    push(setup, "second", "c.pdf", "d.pdf")
    wait("the second group", lambda: counted(setup, "second") == "2")
    page.text("The sidecar is ready again, and runs the next tasks:")
    s.ready(200)
    setup.redis.show("GET", "graflow:barrier:second")
    s.status("running")


def crash_loop(setup):
    s, page = setup.sidecar, setup.page
    page.text("""
## Crash loop of the workers

The workers need a licence server, and it is down: all of them end, and so do their
replacements, each time after a longer pause.
""")
    os.remove(setup.path("licence-server"))
    page.text("The log has each end with the worker's last lines, and reports the crash loop once:")
    s.logged("worker ended", "crash loop: not ready until a worker keeps running")
    page.text("The sidecar runs on, is not ready, and starts workers again:")
    s.ready(503)
    s.metrics('graflow_sidecar_children{state="serving"} 0')
    page.text("A new record waits, or another sidecar takes it. This one claims nothing that it cannot start:")
    # Its last wait for a record may still be on.
    wait("no client to wait for records", lambda: "blocked_clients:0" in setup.redis.cli("INFO", "clients"))
    push(setup, "third", "e.pdf")
    s.run("queue", "peek")
    s.status("running", "0 of 1 workers are up, the workers keep dying")
    page.text("""
**What to do:** [look at the last lines of the workers](operations.md#crash-loop-detection). The
licence server is started again, and nothing else is needed:
""")
    open(setup.path("licence-server"), "w").close()
    s.logged("the crash loop is over")
    wait("the third group", lambda: counted(setup, "third") == "1")
    page.text("The task that waited is done:")
    setup.redis.show("GET", "graflow:barrier:third")
    s.ready(200)


def poison_task(setup):
    s, page = setup.sidecar, setup.page
    page.text("""
## Task that kills its worker

One of a group's documents is damaged in such a way that the worker crashes on it, each
time. The worker cannot report a segmentation fault.
""")
    push(setup, "fourth", "f.pdf", "damaged.pdf", "g.pdf")
    page.text("""
Each time the task goes back to the queue, with one attempt counted. At its last attempt
it has a worker for itself, and then it becomes a dead letter:
""")
    s.logged("task lost with its worker, handed back", "record put into the dead letters")
    page.text("""
The other tasks of the group are done, and the producer has been told of all three: its group failed and did
not time out.
""")
    wait("the fourth group", lambda: counted(setup, "fourth") == "3")
    setup.redis.show("GET", "graflow:barrier:fourth")
    setup.redis.show("HGET", "graflow:completions:fourth", "preview_damaged.pdf")
    s.metrics("graflow_sidecar_dead_letters 1", 'graflow_sidecar_tasks_total{outcome="lost"} 2')
    page.text("The sidecar is ready all the time:")
    s.ready(200)
    page.text("""
**What to do:** [look at the dead letter](operations.md#dead-letters). It has the last lines of the worker:
""")
    s.run("dead", "list")
    dead = json.loads(s.run("dead", "list", "-o", "json", quiet=True))
    dead = (dead["dead_letters"] if isinstance(dead, dict) else dead)[0]["id"]
    s.run("dead", "show", dead)
    page.text("""
The worker is mended, and the document is tried once more. The command says that its group
is over by now; with `--force` it runs the task all the same:
""")
    open(setup.path("release-2"), "w").close()
    setup.redis.cli("DEL", "graflow:barrier:fourth", "graflow:barrier:fourth:expected")  # its producer is done with it
    s.run("dead", "requeue", dead, status=1)
    s.run("dead", "requeue", "--force", dead)
    page.text("It succeeds this time, as the eighth task, and there are no dead letters:")
    s.metrics('graflow_sidecar_tasks_total{outcome="success"} 8')
    s.run("dead", "list")
