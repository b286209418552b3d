"""Remote tasks that the producer comes to itself."""

import threading
import unittest
from typing import Any, List

import redis
from graflow import task, workflow
from graflow.core.context import ExecutionContext
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError

from graflow_sidecar import remote_task
from tests.engine.support import RedisServer
from tests.producer.support import RemoteCase
from tests.support import PATIENCE


class Chains(RemoteCase):
    def test_the_producer_waits_for_the_worker(self):
        with workflow("w") as flow:

            @task
            def fetch():
                return [3, 1, 2]

            @task(id="report")
            def report(sort, limit="none"):
                return {"sorted": sort, "limit": limit}

            fetch >> remote_task("sort", inputs=["fetch"], params={"limit": 2}) >> report
        context = self.context(flow, "fetch")

        def sort(record):
            return [worker.left(record, "bound"), worker.left(record, "inputs")]

        worker = self.elsewhere(sort)
        got = [{"limit": 2}, {"fetch": "fetch"}]
        self.assertEqual(self.execute(context), {"sorted": got, "limit": "none"})
        self.assertEqual(context.get_result("sort"), got)
        (record,) = worker.records
        self.assertEqual(record["session_id"], context.session_id)
        self.assertRegex(record["group_id"], "^sort@[0-9a-f]{32}$")
        self.assertIsInstance(record["created_at"], float)
        self.nothing_left()

    def test_the_workers_failure_is_raised(self):
        done = []
        with workflow("w") as flow:

            @task
            def after():
                done.append("after")

            remote_task("fails") >> after
        context = self.context(flow, "fails")

        def fails(record):
            raise ValueError("no such file")

        self.elsewhere(fails)
        with self.assertRaises(ParallelGroupError) as caught:
            self.execute(context)
        self.assertEqual(str(caught.exception), "remote task 'fails' failed: no such file")
        self.assertEqual(caught.exception.failed_tasks, [("fails", "no such file")])
        self.assertEqual(done, [])
        self.nothing_left()

    def test_retries_are_the_producers(self):
        with workflow("w") as flow:
            remote_task("flaky")
        context = self.context(flow, "flaky", default_max_retries=2)

        def flaky(record):
            if len(worker.records) < 3:
                raise ValueError("not yet")
            return "third time"

        worker = self.elsewhere(flaky)
        self.assertEqual(self.execute(context), "third time")
        self.assertEqual(len({record["group_id"] for record in worker.records}), 3)

    def test_nobody_takes_it(self):
        with workflow("w") as flow:
            remote_task("lonely", timeout=0.1)
        with self.assertRaises(GraflowRuntimeError) as caught:
            self.execute(self.context(flow, "lonely"))
        self.assertIsInstance(caught.exception.cause, TimeoutError)
        self.assertEqual(
            str(caught.exception.cause),
            f"remote task 'lonely' was not done within 0.1 s, and is still in the queue"
            f" '{self.prefix}:queue': does a sidecar with a worker for it read that queue?",
        )
        self.nothing_left()

    def test_redis_goes_away(self):
        with workflow("w") as flow:
            remote_task("far", timeout=None)
        server = RedisServer()
        self.addCleanup(server.close)
        client = server.ready(retry=None)
        config = {"redis_client": client, "key_prefix": self.prefix}
        context = ExecutionContext.create(flow.graph, "far", channel_backend="redis", config=config)
        dispatched = threading.Thread(
            target=lambda: client.blmove(f"{self.prefix}:queue", "taken", 0) and server.stop()
        )
        dispatched.start()
        with self.assertRaises(GraflowRuntimeError) as caught:
            self.execute(context)
        dispatched.join(PATIENCE)
        self.assertIsInstance(caught.exception.cause, redis.ConnectionError)

    def test_somebody_takes_it_and_is_slow(self):
        with workflow("w") as flow:
            remote_task("slow", timeout=0.1)
        free = threading.Event()
        self.elsewhere(lambda record: free.wait(PATIENCE))
        self.addCleanup(free.set)
        with self.assertRaises(GraflowRuntimeError) as caught:
            self.execute(self.context(flow, "slow"))
        self.assertIn("was taken from the queue", str(caught.exception.cause))

    def test_cycles(self):
        with workflow("w") as flow:
            step = remote_task("step")

            @task(inject_context=True)
            def again(ctx):
                seen.append(ctx.get_result("step"))
                if len(seen) < 3:
                    ctx.next_task(step, goto=True)

            step >> again
        seen: List[Any] = []
        # The second time it returns nothing, and the first result is not its own.
        worker = self.elsewhere(lambda record: None if len(worker.records) == 2 else len(seen))
        self.execute(self.context(flow, "step"))
        self.assertEqual(seen, [0, None, 2])

    def test_its_own_last_result_is_an_input(self):
        with workflow("w") as flow:
            step = remote_task("step", inputs=["step"])

            @task(inject_context=True)
            def again(ctx):
                if len(worker.records) < 3:
                    ctx.next_task(step, goto=True)
                return ctx.get_result("step")

            step >> again

        def add(record):
            return (worker.left(record, "result") or 0) + 1

        worker = self.elsewhere(add)
        self.assertEqual(self.execute(self.context(flow, "step")), 3)

    def test_iterations_and_calls_from_a_task(self):
        with workflow("w") as flow:
            step = remote_task("step", params={"size": 1})

            @task(inject_context=True)
            def calls(ctx):
                made = ctx.execution_context.next_iteration(task_id="step")
                return [step(size=2), step(), made]

            step >> calls
        sizes = []
        worker = self.elsewhere(lambda record: sizes.append(worker.left(record, "bound")) or "done")
        context = self.context(flow, "step")
        self.execute(context)
        called = context.get_result("calls")
        self.assertEqual(called[:2], ["done", "done"])
        self.assertEqual(context.get_result(called[2]), "done")
        self.assertEqual(sizes, [{"size": n} for n in (1, 2, 1, 1)])
        with workflow("another"):  # the task has run, and still makes others
            self.assertEqual(step(task_id="step_2")._bound_kwargs, {"size": 1})

    def test_another_queue(self):
        other = f"{self.prefix}-other"
        for config in ({"key_prefix": other}, {"key_prefix": other, "redis_client": self.client}):
            with self.subTest(config=list(config)):
                with workflow("w") as flow:
                    remote_task("here", backend_config=config)
                worker = self.elsewhere(lambda record: "there", other)
                self.assertEqual(self.execute(self.context(flow, "here")), "there")
                worker.stop()

    def test_the_same_id_in_several_sessions(self):
        with workflow("w") as flow:
            remote_task("same", inputs=["mine"])
        contexts = [self.context(flow, "same") for _ in range(4)]
        worker = self.elsewhere(lambda record: record["session_id"])
        for context in contexts:
            self.assertEqual(self.execute(context), context.session_id)
        self.assertEqual(len({record["group_id"] for record in worker.records}), 4)

    def test_what_cannot_be_pickled_stays_here(self):
        lock = threading.Lock()
        with workflow("w") as flow:

            @task
            def before():
                with lock:
                    return 1

            before >> remote_task("after", inputs=[before])
        self.elsewhere(lambda record: "done")
        self.assertEqual(self.execute(self.context(flow, "before")), "done")


if __name__ == "__main__":
    unittest.main()
