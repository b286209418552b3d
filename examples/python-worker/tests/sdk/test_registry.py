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
        with self.assertRaises(TypeError):
            worker.task("b")(lambda: 1)
        with self.assertRaises(TypeError):
            worker.task("c")(lambda *, rows: 1)


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
