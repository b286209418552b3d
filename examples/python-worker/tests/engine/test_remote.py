"""Remote tasks that come to the adapter."""

import os
import unittest

from tests.engine.support import Sidecar
from tests.producer.support import RemoteCase


class RemoteTasks(RemoteCase):
    def test_inside_a_worker(self):
        """A group within a group: the worker is the producer of the inner one."""
        path = os.path.join(os.path.dirname(__file__), "..", "..")
        for backend in ("REDIS", "THREADS"):
            with self.subTest(backend=backend):
                other = f"{self.prefix}-other"
                (record,) = self.records(
                    f"""
                    sys.path.insert(0, {path!r})
                    from graflow_sidecar import remote_task
                    with workflow("w") as flow:
                        queue = {{"key_prefix": "{other}"}}
                        members = [
                            remote_task(name, inputs=["x"], params={{"n": n}}, backend_config=queue)
                            for n, name in enumerate(["far_0", "far_1"])
                        ]
                        group = ParallelGroup(members, name="inner")
                        group.with_execution(backend={backend}, backend_config=queue)
                        @task
                        def total(far_0, far_1):
                            return [far_0, far_1]
                        group >> total
                    push(context_of(flow), "inner")
                    """
                )
                worker = self.elsewhere(
                    lambda r: [worker.left(r, "bound")["n"], worker.left(r, "inputs")], other
                )
                adapter = self.adapter()
                self.succeed(adapter, record)
                inputs = {"x": "x"}
                self.assertEqual(self.channel("total.__result__"), [[0, inputs], [1, inputs]])
                worker.stop()

    def test_the_adapter_takes_it(self):
        Sidecar(self, [self.adapter()])
        self.misplaced()


if __name__ == "__main__":
    unittest.main()
