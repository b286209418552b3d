"""A plain Python worker: a record's payload is its result."""

from graflow_sidecar import serve

serve(lambda task: task.record["payload"])
