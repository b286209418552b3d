"""A plain Python worker that copies a channel's values under other names."""

from graflow_sidecar import Worker

worker = Worker()


@worker.task("copy")
def copy(task, count, prefix):
    channel = task.channel
    values = channel.get_many([f"py_{i}" for i in range(count)])
    for i in range(count):
        channel.set(f"{prefix}_{i}", values[f"py_{i}"])
    return "copied"


@worker.task("count")
def count(task, key, times):
    for _ in range(times):
        with task.channel.lock(key, timeout=30):
            before = task.channel.get(key, 0)
            task.channel.set("thinking", before)
            task.channel.set(key, before + 1)


@worker.task("inputs")
def inputs(task, copy, py_0, py_6, py_17, missing="default"):
    return [repr(value) for value in (copy, py_0, py_6, py_17, missing)]


worker.serve()
