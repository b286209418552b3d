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


def push(night, group, *files):
    night.redis.cli("SET", f"graflow:barrier:{group}:expected", str(len(files)))
    night.redis.cli("RPUSH", "graflow:queue", *records(group, files))


def counted(night, group):
    return night.redis.cli("GET", f"graflow:barrier:{group}").strip()


def redis_is_gone(night):
    s, page = night.sidecar, night.page
    page.text("## Redis is gone\n\nAt two in the morning Redis is killed, in the middle of the work.")
    s.logged("sidecar is ready", show=False)
    open(night.path("busy"), "w").close()
    push(night, "first", "a.pdf", "large.pdf")
    wait("the first task", lambda: counted(night, "first") == "1")
    s.metrics('graflow_sidecar_children{state="serving"} 2', "graflow_sidecar_tasks_in_flight 1", show=False)
    night.redis.kill()
    page.text("The log says so once, and every 10 s from then on:")
    s.logged("redis is lost, waiting for it")
    os.remove(night.path("busy"))
    page.text("It is not ready, and says why. The task that ran has ended meanwhile, and its result is kept:")
    s.ready(503)
    s.metrics("graflow_sidecar_redis_up 0", "graflow_sidecar_reports_pending 1")
    page.text("The commands ask Redis and so cannot help now; they say what to do:")
    s.run("status", status=75)
    page.text("""
**What to do:** [get Redis back](operations.md#redis-is-lost). There is nothing to do about
the sidecar: it does not end, and it is not to be restarted. Redis is started again:
""")
    night.redis.start()
    s.logged("redis is back")
    page.text("The result that was kept is in Redis, and the group is complete:")
    wait("the first group", lambda: counted(night, "first") == "2")
    night.redis.show("GET", "graflow:barrier:first")
    push(night, "second", "c.pdf", "d.pdf")
    wait("the second group", lambda: counted(night, "second") == "2")
    page.text("The sidecar is ready again, and what is pushed is done:")
    s.ready(200)
    night.redis.show("GET", "graflow:barrier:second")
    s.status("running")


def crash_loop(night):
    s, page = night.sidecar, night.page
    page.text("""
## The workers crash in a loop

The workers need a licence server, and that is gone: all of them end, and so do those
that are started in their place, each time after a longer pause.
""")
    os.remove(night.path("licence-server"))
    page.text("The log has each end with the worker's last words, and says once when there is a pattern:")
    s.logged("worker ended", "crash loop: not ready until a worker keeps running")
    page.text("The sidecar lives, is not ready, and goes on trying:")
    s.ready(503)
    s.metrics('graflow_sidecar_children{state="serving"} 0')
    page.text("What is pushed now waits, or another sidecar takes it. This one claims nothing that it cannot start:")
    # Its last wait for a record may still be on.
    wait("nobody to wait for records", lambda: "blocked_clients:0" in night.redis.cli("INFO", "clients"))
    push(night, "third", "e.pdf")
    s.run("queue", "peek")
    s.status("running", "0 of 1 workers are up, the workers keep dying")
    page.text("""
**What to do:** [look at the workers' last words](operations.md#crash-loop). The licence
server is brought back, and nothing else is needed:
""")
    open(night.path("licence-server"), "w").close()
    s.logged("the crash loop is over")
    wait("the third group", lambda: counted(night, "third") == "1")
    page.text("The task that waited is done:")
    night.redis.show("GET", "graflow:barrier:third")
    s.ready(200)


def poison_task(night):
    s, page = night.sidecar, night.page
    page.text("""
## A task that kills its worker

One of a group's documents is damaged in such a way that the worker crashes on it, each
time. A segmentation fault is nothing that the worker could report.
""")
    push(night, "fourth", "f.pdf", "damaged.pdf", "g.pdf")
    page.text("""
Each time the task goes back to the queue, with one attempt counted. The last attempt it
has a worker for itself, and then it is given up:
""")
    s.logged("task lost with its worker, handed back", "record put into the dead letters")
    page.text("""
Its neighbours are done, and the producer has heard of all three: its group failed and did
not time out.
""")
    wait("the fourth group", lambda: counted(night, "fourth") == "3")
    night.redis.show("GET", "graflow:barrier:fourth")
    night.redis.show("HGET", "graflow:completions:fourth", "preview_damaged.pdf")
    s.metrics("graflow_sidecar_dead_letters 1", 'graflow_sidecar_tasks_total{outcome="lost"} 2')
    page.text("The sidecar is ready all the time:")
    s.ready(200)
    page.text("""
**What to do:** [look at it](operations.md#dead-letters). It has what the worker said last:
""")
    s.run("dead", "list")
    dead = json.loads(s.run("dead", "list", "-o", "json", quiet=True))
    dead = (dead["dead_letters"] if isinstance(dead, dict) else dead)[0]["id"]
    s.run("dead", "show", dead)
    page.text("""
The worker is put right, and the document is tried once more. That its group is over by now
is said, and the task is run all the same where that is wanted:
""")
    open(night.path("release-2"), "w").close()
    night.redis.cli("DEL", "graflow:barrier:fourth", "graflow:barrier:fourth:expected")  # its producer is done with it
    s.run("dead", "requeue", dead, status=1)
    s.run("dead", "requeue", "--force", dead)
    page.text("It is done this time, the eighth task of these nights, and the dead letters are empty:")
    s.metrics('graflow_sidecar_tasks_total{outcome="success"} 8')
    s.run("dead", "list")
