"""What the fork server imports, and what its forks need not."""

import json
import os
import unittest

from tests.engine.support import EngineCase


class Preload(EngineCase):
    def test_a_fork_imports_nothing_more_of_graflow(self):
        """Or every worker would pay for it: the list in graflow.py is not complete."""
        records = self.records(
            """
            with workflow("w") as flow:
                @task
                def inner():
                    return 1
                @task(inject_context=True)
                def outer(context):
                    members = ParallelGroup([inner], name="members")
                    members.with_execution(backend=THREADS)
                    context.next_task(members)
                    context.get_channel().set("key", 1)
                @task
                def imported():
                    import sys
                    return sorted(set(sys.modules) - sys.at_fork)
                for node in (outer, imported):
                    flow.graph.add_node(node, skip_if_exists=True)
            push(context_of(flow), "outer", "imported")
            """
        )
        note = "setattr(sys, 'at_fork', set(sys.modules))"
        fork_server = self.fork_server(f"os.register_at_fork(after_in_child=lambda: {note})")
        worker = fork_server.worker(SIDECAR_PROCESS_ID="w-0")
        self.addCleanup(worker.close)
        for record in sorted(records, key=lambda record: record["task_id"], reverse=True):
            self.succeed(worker, record)
        imported = self.channel("imported.__result__")
        self.assertEqual([name for name in imported if name.startswith(("graflow", "redis"))], [])

    def test_nothing_has_spoken_to_redis_before_a_fork(self):
        before = self.client.info("stats")["total_connections_received"]
        fork_server = self.fork_server()
        worker = fork_server.worker(SIDECAR_PROCESS_ID="w-0")
        self.addCleanup(worker.close)
        self.assertIn("result", worker.greeting)
        folder = f"/proc/{fork_server.process.pid}/fd"
        files = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
        self.assertEqual(len([file for file in files if file.startswith("socket:")]), 1, files)
        self.assertEqual(self.client.info("stats")["total_connections_received"], before)

    def test_modules_that_came_after_the_fork_server_are_found(self):
        fork_server = self.fork_server()
        self.module("latecomer", "@task\ndef late():\n    return 'found'")
        (record,) = self.records(
            """
            import latecomer
            with workflow("w") as flow:
                flow.graph.add_node(latecomer.late)
            push(context_of(flow), "late")
            """
        )
        worker = fork_server.worker(SIDECAR_PROCESS_ID="w-0")
        self.addCleanup(worker.close)
        self.succeed(worker, record)
        self.assertEqual(json.dumps(self.channel("late.__result__")), '"found"')


if __name__ == "__main__":
    unittest.main()
