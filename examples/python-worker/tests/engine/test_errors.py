"""Error texts are those that Graflow's own worker reports."""

import json
import unittest

from tests.engine.support import EngineCase
from tests.support import until

FAILING = """
            class Own(Exception):
                def __str__(self):
                    return "own \\u00e9"

            def boom(name, body, **options):
                scope = {"Own": Own}
                exec("def f(ctx):\\n    " + body, scope)
                return task(scope["f"], id=name, inject_context=True, **options)

            TAKEN = "ctx.get_channel().lock('a', timeout=0.05).__enter__()"
            with workflow("w") as flow:
                nodes = [
                    boom("value", "raise ValueError('no')"),
                    boom("empty", "raise ValueError"),
                    boom("key", "{}['x']"),
                    boom("own", "raise Own"),
                    boom("chained", "raise RuntimeError('outer') from ValueError('inner')"),
                    boom("timeout", "raise TimeoutError('slow')"),
                    boom("lock", TAKEN + "; " + TAKEN),
                    boom("assertion", "assert 1 == 2, 'not equal'"),
                    boom("cancel", "ctx.cancel_workflow('stop it')"),
                    boom("retries", "raise ValueError('again')", max_retries=2),
                    boom("cycles", "ctx.next_iteration()", max_cycles=2),
                    boom("handler", "pass", handler="no-such-handler"),
                    boom("generator", "raise StopIteration('s')"),
                    boom("ok", "return float('nan')"),
                ]
                @task
                def argument(nowhere):
                    pass
                nodes.append(argument)
                for node in nodes:
                    flow.graph.add_node(node, skip_if_exists=True)
                left, right = boom("left", "raise ValueError('left')"), boom("right", "return 1")
                group = (left | right).set_group_name("group").with_execution(backend=THREADS)
            names = [node.task_id for node in nodes] + ["group"]
"""

GRAFLOWS_WORKER = """
from graflow.worker.worker import TaskWorker
queue = DistributedTaskQueue(redis_client=binary, key_prefix=PREFIX)
worker = TaskWorker(queue=queue, worker_id="w", max_concurrent_tasks=1, poll_interval=0.01)
worker.start()
import threading
threading.Event().wait()
"""


class Errors(EngineCase):
    def test_the_same_texts(self):
        records = self.records(FAILING + "\n            push(context_of(flow), *names, group='g')")
        for record in records:
            self.client.rpush(f"{self.prefix}:queue", json.dumps(record))
        graflows = self.producer(GRAFLOWS_WORKER)
        completions = f"{self.prefix}:completions:g"
        until(lambda: self.client.hlen(completions) == len(records), "Graflow's worker")
        graflows.kill()
        theirs = {
            name: json.loads(text)["error_message"]
            for name, text in self.client.hgetall(completions).items()
        }
        worker = self.adapter()
        ours = {}
        for record in records:
            result = worker.run(record)
            failed = result["status"] == "failed"
            ours[record["task_id"]] = result["error"]["message"] if failed else None
            if failed:
                self.assertFalse(result["error"]["retryable"], result)
        self.maxDiff = None
        self.assertEqual(ours, theirs)
        self.assertEqual(ours["value"], "An error occurred: no (caused by no)")

    def run_one(self, body: str, **changes):
        (record,) = self.records(
            f"""
            with workflow("w") as flow:
                @task
                def one():
                    {body}
                flow.graph.add_node(one, skip_if_exists=True)
            push(context_of(flow), "one")
            """
        )
        for name, value in changes.items():
            record.pop(name)
            if value is not None:
                record[name] = value
        worker = self.adapter()
        return worker, worker.run(record)

    def test_the_type_is_that_of_the_tasks_own_exception(self):
        _, result = self.run_one("raise LookupError('x')")
        self.assertEqual(result["error"]["type"], "LookupError")
        self.assertIn("LookupError: x", result["error"]["stack"])

    def test_a_failure_and_its_traceback_are_told_once(self):
        records = self.records(
            """
            def own():
                from graflow.exceptions import GraflowRuntimeError
                try:
                    {}["x"]
                except KeyError as exc:
                    raise GraflowRuntimeError("raised in own", cause=exc)

            def chained():
                raise RuntimeError("outer") from ValueError("inner")

            def plain():
                raise ValueError("no")

            with workflow("w") as flow:
                for function in (own, chained, plain):
                    node = task(function)
                    flow.graph.add_node(node, skip_if_exists=True)
                retries = task("retries", max_retries=1)(plain)
                left = task("left")(plain)
                group = (left | task("right")(int)).set_group_name("group")
                group.with_execution(backend=THREADS)
            push(context_of(flow), "own", "chained", "plain", "retries", "group")
            """
        )
        worker = self.adapter(LOG_LEVEL="INFO")
        tracebacks = {"own": 2, "chained": 1, "plain": 1, "retries": 1, "group": 1}
        for record in records:
            name = record["task_id"]
            with self.subTest(name):
                stack = worker.run(record)["error"]["stack"]
                self.assertEqual(stack.count("Traceback (most"), tracebacks[name], stack)
                last = {"own": "raised in own", "chained": "outer", "group": "Parallel group"}
                self.assertIn(last.get(name, "ValueError: no"), stack.splitlines()[-1])
                self.assertNotIn("Traceback", worker.log())
                self.assertNotIn("ERROR", worker.log())

    def test_exit_is_a_failed_task(self):
        worker, result = self.run_one("sys.exit(3)")
        self.assertEqual(result["error"]["message"], "the task called sys.exit(3)")
        self.assertEqual(worker.call("ping")["result"], {})

    def test_an_unknown_graph(self):
        _, result = self.run_one("pass", graph_hash="0" * 64)
        self.assertIn("Graph snapshot not found: 000", result["error"]["message"])

    def test_an_unknown_task(self):
        _, result = self.run_one("pass", task_id="nobody")
        self.assertRegex(
            result["error"]["message"], "^Task nobody not found in graph [0-9a-f]{64}$"
        )

    def test_a_field_too_few(self):
        _, result = self.run_one("pass", trace_id=None)
        self.assertIn(
            "missing 1 required positional argument: 'trace_id'", result["error"]["message"]
        )

    def test_a_field_too_many(self):
        (record,) = self.records(FAILING + "\n            push(context_of(flow), 'ok')")
        result = self.adapter().run({**record, "extra": 1})
        self.assertIn("unexpected keyword argument 'extra'", result["error"]["message"])

    def test_a_module_that_is_not_there(self):
        self.module("gone", "def helper():\n    pass\n\n@task\ndef one():\n    helper()\n")
        (record,) = self.records(
            """
            import gone
            with workflow("w") as flow:
                flow.graph.add_node(gone.one)
            push(context_of(flow), "one")
            """
        )
        (self.here / "gone.py").unlink()
        error = self.adapter().run(record)["error"]
        self.assertEqual(
            (error["type"], error["message"]),
            (
                "ModuleNotFoundError",
                "ModuleNotFoundError: No module named 'gone' (while loading the task's graph)",
            ),
        )

    def test_a_cancel_ends_the_task(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True, max_retries=5)
                def sleeper(ctx):
                    import time
                    ctx.get_channel().set("started", True)
                    time.sleep(60)
                flow.graph.add_node(sleeper, skip_if_exists=True)
            push(context_of(flow), "sleeper")
            """
        )
        worker = self.adapter()
        running = worker.begin(record)
        until(lambda: self.client.exists(f"graflow:channel:{self.session}:started"), "the start")
        worker.notify("$/cancelRequest", {"id": running})
        self.assertEqual(worker.answer(running)["error"]["code"], -32800)


if __name__ == "__main__":
    unittest.main()
