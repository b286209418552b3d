"""Worker: functions for tasks by their ids; and coroutines."""

import unittest

from tests.support import WorkerCase

ETL = """
    from graflow_sidecar import Worker
    worker = Worker(name="etl")

    @worker.task("etl.*")
    def clean(task, rows, limit=2, *, unit="m"):
        task.progress(0.5)
        return [rows[:limit], unit, task.delivery]

    @worker.task("etl.load")
    async def load(task):
        import asyncio
        await asyncio.sleep(0)
        return "the exact one"

    @worker.task("*")
    def anything(task, **rest):
        return rest

    worker.serve()
"""


class Registry(WorkerCase):
    def test_declares_what_its_functions_want(self):
        worker = self.worker(ETL)
        result = worker.greeting["result"]
        self.assertEqual(result["inputs"], {"etl.*": ["rows", "limit", "unit"], "*": []})
        self.assertEqual(result["worker"]["name"], "etl")

    def test_runs_the_one_that_fits_best(self):
        worker = self.worker(ETL)
        inputs = {"rows": {"value": [1, 2, 3]}, "other": {"value": 1}}
        result = worker.run({"task_id": "etl.x"}, inputs=inputs)
        self.assertEqual(result["value"][:2], [[1, 2], "m"])
        self.assertEqual(worker.notification("$/progress")["params"]["fraction"], 0.5)
        params = {"limit": 1, "unit": "km"}
        result = worker.run({"task_id": "etl.x", "params": params}, inputs=inputs)
        self.assertEqual(result["value"][:2], [[1], "km"])
        self.assertEqual(worker.run({"task_id": "etl.load"})["value"], "the exact one")
        result = worker.run({"task_id": "else", "params": {"a": 1}}, inputs=inputs)
        self.assertEqual(result["value"], {"a": 1, "rows": [1, 2, 3], "other": 1})

    def test_a_missing_input_is_a_failure(self):
        error = self.worker(ETL).run({"task_id": "etl.x"})["error"]
        self.assertEqual(error["type"], "TypeError")
        self.assertIn("'rows'", error["message"])

    def test_a_task_that_nobody_has(self):
        worker = self.worker(
            """
            from graflow_sidecar import Worker
            worker = Worker()
            worker.task("a.b")(lambda task: 1)
            worker.serve()
            """
        )
        error = worker.run({"task_id": "aXb"})["error"]
        self.assertEqual(error["message"], "this worker has no task 'aXb'; it has a.b")

    def test_mistakes(self):
        from graflow_sidecar import Worker

        worker = Worker()
        worker.task("a")(lambda task: 1)
        with self.assertRaises(ValueError):
            worker.task("a")
        with self.assertRaisesRegex(TypeError, r"clean\(task, rows\) and clean\(rows\)"):

            @worker.task("c")
            def clean(task, rows, /):
                pass

    def test_a_function_need_not_take_the_task(self):
        worker = self.worker(
            """
            from __future__ import annotations
            from graflow_sidecar import Task, Worker, serve
            worker = Worker()

            @worker.task
            def rows_only(rows, limit=2):
                return rows[:limit]

            @worker.task
            async def coroutine(rows):
                return rows

            @worker.task("nothing")
            def without():
                return "nothing"

            @worker.task
            def keyword(rows, *, task):
                return [rows, task.delivery]

            @worker.task
            def annotated(t: Task, rows):
                return [rows, t.delivery]

            @worker.task
            def by_place(t, /, rows):
                return [rows, t.delivery]

            def decorated(*args, **kwargs):
                return [kwargs["rows"], args[0].delivery]
            worker.task(decorated)

            @worker.task
            def rest(**values):
                return values

            @worker.task
            def another_name(t, rows):
                pass

            worker.serve()
            """
        )
        inputs = worker.greeting["result"]["inputs"]
        self.assertEqual((inputs["rows_only"], inputs["keyword"]), (["rows", "limit"], ["rows"]))
        wanted = {
            "rows_only": [1, 2], "coroutine": [1, 2, 3], "nothing": "nothing",
            "rest": {"rows": [1, 2, 3], "limit": 9},
        }
        for name in ("keyword", "annotated", "by_place", "decorated"):
            wanted[name] = [[1, 2, 3], "d"]
        for name, want in wanted.items():
            with self.subTest(name):
                given = {"rows": {"value": [1, 2, 3]}}
                if name == "rest":
                    given["limit"] = {"value": 9}
                result = worker.run({"task_id": name}, inputs=given, delivery="d")
                self.assertEqual(result.get("value"), want, result)
        error = worker.run({"task_id": "another_name"}, inputs={"rows": {"value": 1}})["error"]
        self.assertRegex(error["message"], "'t' of another_name.* a parameter called task")

    def test_a_handler_that_takes_no_task(self):
        for handler in ("lambda: 1", "lambda task, rows: 1", "lambda *, task: 1"):
            worker = self.handler("pass", handler, greet=False)
            self.assertEqual(worker.wait(), 1)
            worker.logged("TypeError: the handler is called with the task alone, as in:")


SLOW = """
    import asyncio, sys
    from graflow_sidecar import serve

    async def handle(task):
        if not task.record.get("wait"):
            return 7
        try:
            task.log("begun")
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            print("cleaned up", file=sys.stderr, flush=True)

    serve(handle, concurrency=%d)
"""


class Coroutines(WorkerCase):
    def test_cancelled(self):
        for concurrency in (1, 2):
            with self.subTest(concurrency=concurrency):
                worker = self.worker(SLOW % concurrency)
                for _ in range(3):
                    number = worker.begin({"wait": True})
                    worker.notification("log")
                    worker.notify("$/cancelRequest", {"id": number})
                    self.assertEqual(worker.answer(number)["error"]["code"], -32800)
                    self.assertEqual(worker.run({})["value"], 7)
                worker.logged("cleaned up")

    def test_at_the_end_of_stdin(self):
        worker = self.worker(SLOW % 1)
        worker.begin({"wait": True})
        worker.notification("log")
        worker.end_input()
        worker.wait()
        worker.logged("cleaned up")

    def test_that_cancels_itself(self):
        nap = "import asyncio\nasync def nap(task):\n    raise asyncio.CancelledError\n"
        worker = self.handler("pass", "nap", nap)
        self.assertEqual(worker.run({})["error"]["type"], "CancelledError")


if __name__ == "__main__":
    unittest.main()
