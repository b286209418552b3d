"""task.channel: what goes out for each method, and what an answer becomes."""

import json
import unittest

from tests.support import WorkerCase


class ChannelCase(WorkerCase):
    def reply(self, worker, method, **members):
        """Wait for a request of the worker's and answer it; its params."""
        request = worker.notification(method)
        self.answer(worker, request, **members)
        params = request["params"]
        self.assertTrue(params.pop("delivery").startswith("run."))
        return params


    def answer(self, worker, request, **members):
        message = {"jsonrpc": "2.0", "id": request["id"], **members}
        worker.raw(json.dumps(message).encode() + b"\n")

    def getter(self, concurrency):
        """A worker whose tasks read the key k."""
        return self.handler("return task.channel.get('k')", f"handle, concurrency={concurrency}")


class Coroutines(ChannelCase):
    def test_the_same_reach(self):
        """Two reads at once, one of the loop's own, progress, log and a record."""
        worker = self.worker(
            """
            import asyncio
            from graflow_sidecar import Worker
            worker = Worker()

            @worker.task("etl.*")
            async def etl(task, rows, **rest):
                get = task.channel.get
                both = await asyncio.gather(*(asyncio.to_thread(get, key) for key in "ab"))
                task.progress(0.5)
                task.log("half", rows=len(rows))
                task.enqueue({"task_id": "next"})
                return [rows, rest, both, get("c")]

            worker.serve()
            """
        )
        self.assertEqual(worker.greeting["result"]["inputs"], {"etl.*": ["rows"]})
        inputs = {"rows": {"value": [1]}, "bound": {"valueText": "1e999"}}
        running = worker.begin({"task_id": "etl.x"}, inputs=inputs)
        two = [worker.notification("channel/get") for _ in range(2)]
        for request in reversed(two):  # whose order is not that of the answers
            value = request["params"]["key"].upper()
            self.answer(worker, request, result={"found": True, "value": value})
        self.assertEqual(worker.notification("$/progress")["params"]["fraction"], 0.5)
        self.assertEqual(worker.notification("log")["params"]["fields"], {"rows": 1})
        record = self.reply(worker, "task/enqueue", result={})["record"]
        self.assertEqual(record, {"task_id": "next"})
        self.reply(worker, "channel/get", result={"found": True, "value": "C"})
        value = worker.answer(running)["result"]["valueText"]
        self.assertEqual(json.loads(value), [[1], {"bound": float("inf")}, ["A", "B"], "C"])


class Methods(ChannelCase):
    def test_each(self):
        worker = self.handler("return eval(task.record['do'], {'c': task.channel, 'task': task})")
        for do, method, params, result, value in [
            ("c.get('k')", "channel/get", {"key": "k"}, {"found": True, "value": [1.0]}, [1.0]),
            ("c.get('ä', 7)", "channel/get", {"key": "ä"}, {"found": False}, 7),
            ("c.get('k', 7)", "channel/get", {"key": "k"}, {"found": True, "value": None}, None),
            (
                "c.get('k', 7)",
                "channel/get",
                {"key": "k"},
                {"found": True, "valueText": "no JSON"},
                7,
            ),
            (
                "str(c.get('k'))",
                "channel/get",
                {"key": "k"},
                {"found": True, "valueText": "[NaN, -Infinity]"},
                "[nan, -inf]",
            ),
            (
                "str(c.get('k'))",
                "channel/get",
                {"key": "k"},
                {"found": True, "valueText": "123456789012345678901"},
                "123456789012345678901",
            ),
            (
                "c.get_many(['a', 'b', 'c'])",
                "channel/get",
                {"keys": ["a", "b", "c"]},
                {
                    "values": [
                        {"found": True, "value": 1},
                        {"found": False},
                        {"found": True, "value": None},
                    ]
                },
                {"a": 1, "c": None},
            ),
            ("c.set('k', {'a': 1.0})", "channel/set", {"key": "k", "value": {"a": 1.0}}, {}, None),
            (
                "c.set('k', None, ttl=2)",
                "channel/set",
                {"key": "k", "value": None, "ttlMs": 2000},
                {},
                None,
            ),
            ("c.set('k', float('nan'))", "channel/set", {"key": "k", "valueText": "NaN"}, {}, None),
            ("c.set('k', 2**60)", "channel/set", {"key": "k", "valueText": str(2**60)}, {}, None),
            (
                "c.set('k', {1: __import__('decimal').Decimal('1.50')})",
                "channel/set",
                {"key": "k", "value": {"1": "1.50"}},
                {},
                None,
            ),
            ("c.delete('k')", "channel/delete", {"key": "k"}, {"deleted": True}, True),
            ("c.exists('k')", "channel/exists", {"key": "k"}, {"exists": False}, False),
            ("c.keys()", "channel/keys", {}, {"keys": ["a"]}, ["a"]),
            (
                "c.append('l', 'x', ttl=0.5)",
                "channel/append",
                {"key": "l", "value": "x", "ttlMs": 500},
                {"length": 3},
                3,
            ),
            ("c.prepend('l', [])", "channel/prepend", {"key": "l", "value": []}, {"length": 4}, 4),
            (
                "repr(c.atomic_add('n'))",
                "channel/add",
                {"key": "n", "amount": 1},
                {"value": 2.0},
                "2",
            ),
            (
                "repr(c.atomic_add('n', -0.5))",
                "channel/add",
                {"key": "n", "amount": -0.5},
                {"value": 1.5},
                "1.5",
            ),
            (
                "task.enqueue({'task_id': 'next'})",
                "task/enqueue",
                {"record": {"task_id": "next"}},
                {},
                None,
            ),
        ]:
            with self.subTest(do):
                number = worker.begin({"do": do})
                self.assertEqual(self.reply(worker, method, result=result), params)
                answer = worker.answer(number)["result"]
                self.assertEqual(answer["status"], "succeeded", answer)
                self.assertEqual(answer.get("value"), value)

    def test_lock(self):
        worker = self.handler("with task.channel.lock('k', timeout=1.5):\n    print('inside')")
        number = worker.begin({})
        params = self.reply(worker, "channel/lock", result={"token": "t"})
        self.assertEqual(params, {"key": "k", "timeoutMs": 1500})
        params = self.reply(worker, "channel/unlock", result={"released": False})
        self.assertEqual(params, {"key": "k", "token": "t"})
        self.assertEqual(worker.answer(number)["result"], {"status": "succeeded"})

    def test_a_lock_that_is_not_to_be_had(self):
        worker = self.handler("with task.channel.lock('k'):\n    pass")
        number = worker.begin({})
        self.reply(worker, "channel/lock", result={"token": None})
        error = worker.answer(number)["result"]["error"]
        self.assertEqual(error["type"], "TimeoutError")
        self.assertEqual(error["message"], "Could not acquire lock for key 'k' within 10.0s")

    def test_errors(self):
        worker = self.handler("task.channel.get('k')")
        for code, retryable in ((-32602, False), (-32002, False), (-32603, True)):
            number = worker.begin({})
            self.reply(worker, "channel/get", error={"code": code, "message": "because"})
            error = worker.answer(number)["result"]["error"]
            self.assertEqual(
                (error["type"], error["message"], error["retryable"]),
                ("RequestError", "because", retryable),
            )

    def test_too_long(self):
        worker = self.handler("task.channel.set('k', 'x' * 5000)", limit=4096)
        error = worker.run({})["error"]
        self.assertEqual(error["type"], "RequestError")
        self.assertIn("4096 bytes", error["message"])

    def test_an_answer_that_python_cannot_read(self):
        worker = self.handler("sys.setrecursionlimit(200)\nreturn task.channel.get('k')")
        number = worker.begin({})
        request = worker.notification("channel/get")
        value = "[" * 900 + "]" * 900
        text = f'{{"jsonrpc":"2.0","id":{request["id"]},"result":{{"found":true,"value":{value}}}}}'
        worker.raw(text.encode() + b"\n")
        error = worker.answer(number)["result"]["error"]
        self.assertEqual(error["type"], "RequestError")
        self.assertIn("RecursionError", error["message"])

    def test_answers_to_nothing_are_passed_over(self):
        worker = self.handler("return task.channel.get('k')")
        worker.raw(b'{"jsonrpc":"2.0","id":1,"result":{}}\n')
        worker.raw(b'{"jsonrpc":"2.0","id":"x","result":{}}\n')
        worker.raw(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}\n')
        number = worker.begin({})
        self.reply(worker, "channel/get", result={"found": True, "value": 5})
        self.assertEqual(worker.answer(number)["result"]["value"], 5)


class Inputs(ChannelCase):
    def test_declared(self):
        worker = self.handler("pass", "handle, inputs={'etl.*': ['x'], '*': ['y']}")
        self.assertEqual(worker.greeting["result"]["inputs"], {"etl.*": ["x"], "*": ["y"]})

    def test_none(self):
        worker = self.handler("return task.inputs")
        self.assertNotIn("inputs", worker.greeting["result"])
        self.assertEqual(worker.run({})["value"], {})

    def test_values(self):
        worker = self.handler("return repr(task.inputs)")
        members = {
            "a": {"value": [1.0, None]},
            "b": {"valueText": "[NaN, 123456789012345678901]"},
            "c": {"valueText": "no JSON"},
            "d": {"value": None},
        }
        self.assertEqual(
            worker.run({}, inputs=members)["value"],
            "{'a': [1.0, None], 'b': [nan, 123456789012345678901], 'c': None, 'd': None}",
        )


class Waiting(ChannelCase):
    """A task that waits for an answer, and what happens meanwhile."""

    def test_the_worker_answers_pings(self):
        for concurrency in (1, 2):
            worker = self.getter(concurrency)
            number = worker.begin({})
            request = worker.notification("channel/get")
            self.assertEqual(worker.call("ping")["result"], {})
            self.answer(worker, request, result={"found": False})
            self.assertEqual(worker.answer(number)["result"], {"status": "succeeded"})

    def test_cancelled(self):
        for concurrency in (1, 2):
            worker = self.getter(concurrency)
            number = worker.begin({})
            worker.notification("channel/get")
            worker.notify("$/cancelRequest", {"id": number})
            self.assertEqual(worker.answer(number)["error"]["code"], -32800)
            number = worker.begin({})
            self.reply(worker, "channel/get", result={"found": True, "value": 1})
            self.assertEqual(worker.answer(number)["result"]["value"], 1)

    def test_the_sidecar_is_gone(self):
        for concurrency in (1, 2):
            worker = self.getter(concurrency)
            worker.begin({})
            worker.notification("channel/get")
            worker.end_input()
            worker.wait()

    def test_in_a_forked_child(self):
        worker = self.handler(
            """
            pid = os.fork()
            if pid == 0:
                try:
                    task.channel.get('k')
                except RequestError as exc:
                    os._exit(7 if 'forked' in str(exc) else 8)
                os._exit(9)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            """
        )
        self.assertEqual(worker.run({})["value"], 7)

    def test_threads_of_one_task(self):
        worker = self.handler(
            """
            import concurrent.futures
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                return list(pool.map(task.channel.get, [str(n) for n in range(8)]))
            """
        )
        number = worker.begin({})
        requests = [worker.notification("channel/get") for _ in range(8)]
        for request in reversed(requests):
            value = int(request["params"]["key"])
            self.answer(worker, request, result={"found": True, "value": value})
        self.assertEqual(worker.answer(number)["result"]["value"], list(range(8)))


if __name__ == "__main__":
    unittest.main()
