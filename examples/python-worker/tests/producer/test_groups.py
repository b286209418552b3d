"""Remote tasks in groups."""

import unittest
import uuid

from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError

from graflow_sidecar import remote_task
from tests.producer.support import RemoteCase

REDIS, THREADS = CoordinationBackend.REDIS, CoordinationBackend.THREADING


class Groups(RemoteCase):
    def test_beside_tasks_in_python(self):
        with workflow("w") as flow:

            @task
            def fetch():
                return [1, 2]

            @task
            def score(fetch):
                return sum(fetch)

            @task
            def report(clean, score):
                return [clean, score]

            clean = remote_task("clean", inputs=[fetch], params={"x": float("inf")})
            group = (clean | score).set_group_name(f"g{uuid.uuid4().hex}")
            fetch >> group.with_execution(backend=REDIS, backend_config=self.config()) >> report

        def work(record):
            if record["task_id"] == "score":
                return "scored"
            return [worker.left(record, "bound"), worker.left(record, "inputs")]

        worker = self.elsewhere(work)
        got = self.execute(self.context(flow, "fetch"))
        self.assertEqual(got, [[{"x": float("inf")}, {"fetch": "fetch"}], "scored"])
        self.assertEqual({r["group_id"] for r in worker.records}, {group.task_id})

    def test_a_failure_is_the_groups(self):
        with workflow("w") as flow:
            group = (remote_task("a") | remote_task("b")).set_group_name(uuid.uuid4().hex)
            group.with_execution(backend=REDIS, backend_config=self.config())

        def work(record):
            if record["task_id"] == "b":
                raise ValueError("broken")

        self.elsewhere(work)
        with self.assertRaises(ParallelGroupError) as caught:
            self.execute(self.context(flow, group.task_id))
        self.assertEqual(caught.exception.failed_tasks, [("b", "broken")])
        self.assertEqual(caught.exception.successful_tasks, ["a"])

    def test_in_threads_and_direct(self):
        for backend in (THREADS, CoordinationBackend.DIRECT):
            with self.subTest(backend=backend):
                with workflow("w") as flow:
                    first = remote_task("first", params={"n": 1})

                    @task
                    def after(first):
                        return first * 10

                    @task
                    def other():
                        return "here"

                    group = (first >> after) | other
                    group.with_execution(backend=backend)
                context = self.context(flow, group.task_id)
                worker = self.elsewhere(lambda record: worker.left(record, "bound")["n"])
                self.execute(context)
                found = [context.get_result(name) for name in ("first", "after", "other")]
                self.assertEqual(found, [1, 10, "here"])
                worker.stop()

    def test_a_member_with_successors_of_its_own(self):
        with workflow("w") as flow:

            @task
            def after():
                return 1

            group = (remote_task("first") >> after) | remote_task("second")
            group.with_execution(backend=REDIS, backend_config=self.config())
        with self.assertRaises(GraflowRuntimeError) as caught:
            self.execute(self.context(flow, group.task_id))
        self.assertIn("remote task 'first' is in the Redis group", str(caught.exception))
        self.assertIn("a successor of its own, 'after'", str(caught.exception))
        self.nothing_left()


if __name__ == "__main__":
    unittest.main()
