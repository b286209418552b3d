"""A worker for the Graflow sidecar, in Python.

    from graflow_sidecar import serve

    def handle(task):
        return {"length": len(task.record["text"])}

    serve(handle)

Run it with: sidecar run -- python worker.py
"""

from ._channel import Channel
from ._registry import Worker
from ._remote import remote_task
from ._requests import RequestError
from ._serve import serve
from ._sidecar import Sidecar, SidecarError
from ._stdio import take_stdio
from ._task import StartError, Task, TaskCancelled, TaskError

__version__ = "0.1.0"

__all__ = [
    "Channel",
    "RequestError",
    "Sidecar",
    "SidecarError",
    "StartError",
    "Task",
    "TaskCancelled",
    "TaskError",
    "Worker",
    "remote_task",
    "serve",
    "take_stdio",
]
