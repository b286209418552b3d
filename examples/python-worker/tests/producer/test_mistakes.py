"""Remote tasks as they must not be used, and copies of them."""

import os
import pickle
import subprocess
import sys
import unittest

from graflow import workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.serialization import dumps
from graflow.exceptions import GraflowRuntimeError

from graflow_sidecar import remote_task
from tests.producer.support import RemoteCase
from tests.support import PATIENCE

REDIS = CoordinationBackend.REDIS


class Mistakes(RemoteCase):
    def test_a_channel_that_is_not_redis(self):
        with workflow("chain") as chain:
            remote_task("far")
        with workflow("group") as group:
            members = remote_task("far") | remote_task("too")
            members.with_execution(backend=REDIS)
        for flow, start in ((chain, "far"), (group, members.task_id)):
            with self.subTest(start):
                context = ExecutionContext.create(flow.graph, start)
                with self.assertRaises(GraflowRuntimeError) as caught:
                    self.execute(context)
                self.assertIn("'far' needs a channel in Redis", str(caught.exception))
                self.assertIn("this is a MemoryChannel", str(caught.exception))
        with self.assertRaisesRegex(GraflowRuntimeError, "no workflow is running"):
            remote_task("far")()

    def test_parameters_that_are_none(self):
        for params in ({"when": object()}, {"x": {1: {2, 3}}}):
            with self.assertRaisesRegex(TypeError, "of remote task 'far' cannot be sent"):
                remote_task("far", params=params)
        with self.assertRaisesRegex(TypeError, "keyword arguments only"):
            remote_task("far")(1)
        for inputs in ("fetch", [1], {"rows": 1}):
            with self.assertRaises(TypeError):
                remote_task("far", inputs=inputs)

    def test_called_it_makes_another_task(self):
        with workflow("w") as flow:
            made = remote_task("clean", inputs={"rows": "fetch"}, params={"a": 1})(b=2)
            named = remote_task("sort")(task_id="sort.eu", c=3)
            used = remote_task("used")
            made >> used
            again = used(task_id="used.2")
        self.assertRegex(made.task_id, "^clean_[0-9a-f]{8}$")
        self.assertEqual(set(flow.graph.nodes), {made.task_id, "sort.eu", "used", "used.2"})
        self.assertEqual(made._bound_kwargs, {"a": 1, "b": 2})
        self.assertEqual(made._remote_inputs, {"rows": "fetch"})
        self.assertEqual((named._bound_kwargs, again._bound_kwargs), ({"c": 3}, {}))

    def test_graflows_own_worker_takes_it(self):
        # It has neither this package nor a way to run the task.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"REDIS_PORT": str(self.server.port), "REDIS_KEY_PREFIX": self.prefix}
        worker = subprocess.Popen(
            [sys.executable, "-I", "-m", "graflow.worker.main", "--redis-key-prefix", self.prefix]
            + ["--redis-port", str(self.server.port)],
            env=environment,
            cwd=str(self.here),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(worker.wait, PATIENCE)
        self.addCleanup(worker.kill)
        self.misplaced()


class Pickles(RemoteCase):
    def test_without_this_package(self):
        with workflow("w") as flow:
            remote_task("far", inputs=["x"], params={"y": 1}, timeout=None)
        path = self.here / "graph"
        path.write_bytes(dumps(flow.graph))
        script = f"""
import pickle, sys
graph = pickle.load(open({str(path)!r}, "rb"))
far = graph.get_node("far")
assert not [name for name in sys.modules if "graflow_sidecar" in name]
print(far, far._bound_kwargs)
again = pickle.loads(__import__("cloudpickle").dumps(far))
print(again, again._remote_inputs)
try:
    again.run()
except Exception as exc:
    print(type(exc).__name__, exc)
"""
        done = subprocess.run(
            [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=PATIENCE
        )
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(lines[:2], ["RemoteTask(far) {'y': 1}", "RemoteTask(far) {'x': 'x'}"])
        self.assertIn("GraflowRuntimeError remote task 'far' needs a channel in Redis", lines[2])

    def test_a_copy_works_as_the_task_does(self):
        with workflow("w") as flow:
            remote_task("far", params={"y": 1})
        flow.graph = pickle.loads(dumps(flow.graph))
        worker = self.elsewhere(lambda record: worker.left(record, "bound"))
        self.assertEqual(self.execute(self.context(flow, "far")), {"y": 1})

    def test_graphs_keep_their_hash(self):
        # Or every run of a producer would leave a graph of its own in Redis.
        source = """
from graflow_sidecar import remote_task
from graflow import task, workflow
from graflow.core.serialization import dumps
import hashlib
with workflow("w") as flow:
    remote_task("a", inputs=["x"]) >> remote_task("b", params={"y": 1})
print(hashlib.sha256(dumps(flow.graph)).hexdigest())
"""
        hashes = set()
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", source],
                env={**os.environ, **self.environment()},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            hashes.add(done.stdout)
        self.assertEqual(len(hashes), 1)


if __name__ == "__main__":
    unittest.main()
