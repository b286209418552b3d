"""serve(): tasks, answers, and what the protocol says about lines and ids."""

import unittest

from tests.support import Worker, WorkerCase


class Greeting(WorkerCase):
    def test_says_who_it_is(self):
        worker = self.handler("pass", "handle, concurrency=3, name='n', version='v'")
        self.assertEqual(
            worker.greeting["result"],
            {
                "protocolVersion": 1,
                "worker": {"name": "n", "version": "v"},
                "concurrency": 3,
                "capabilities": {"channels": {}},
            },
        )

    def test_answers_its_own_version_to_a_newer_one(self):
        worker = self.handler("pass", greet=False)
        answer = worker.call("initialize", {"protocolVersion": 9})
        self.assertEqual(answer["result"]["protocolVersion"], 1)

    def test_refuses_an_older_version(self):
        worker = self.handler("pass", greet=False)
        for params in ({"protocolVersion": 0}, {}, None, [1]):
            answer = worker.call("initialize", params)
            self.assertEqual(answer["error"]["code"], -32602, params)

    def test_only_one(self):
        worker = self.handler("pass")
        answer = worker.call("initialize", {"protocolVersion": 1})
        self.assertEqual(answer["error"]["code"], -32600)

    def test_comes_before_tasks(self):
        worker = self.handler("pass", greet=False)
        answer = worker.call("task/run", {"delivery": "d", "record": {}})
        self.assertEqual(answer["error"]["code"], -32600)
        self.assertEqual(worker.call("ping")["result"], {})

    def test_a_failing_setup_is_one_clear_line(self):
        before = "def setup():\n    raise StartError('no licence: set LICENCE')\n"
        worker = self.handler("pass", "handle, setup=setup", before, greet=False)
        answer = worker.initialize()
        self.assertEqual(answer["error"], {"code": -32603, "message": "no licence: set LICENCE"})
        self.assertEqual(worker.wait(), 1)
        self.assertNotIn("Traceback", worker.log())


class Tasks(WorkerCase):
    def test_values(self):
        worker = self.handler("return eval(task.record['v'])")
        for source, want in [
            ("None", {"status": "succeeded"}),
            ("[1, 'zwei', None]", {"status": "succeeded", "value": [1, "zwei", None]}),
            ("False", {"status": "succeeded", "value": False}),
            ("float('nan')", {"status": "succeeded", "valueText": "NaN"}),
            ("[float('-inf')]", {"status": "succeeded", "valueText": "[-Infinity]"}),
            ("2**53 + 1", {"status": "succeeded", "valueText": "9007199254740993"}),
        ]:
            with self.subTest(source):
                self.assertEqual(worker.run({"v": source}), want)

    def test_failures(self):
        before = "class Odd(Exception):\n    def __str__(self): raise RuntimeError\n"
        worker = self.handler("exec(task.record['v'])", before=before)
        for source, kind, message, retryable in [
            ("raise ValueError('no')", "ValueError", "no", False),
            ("raise TaskError('later', retryable=True)", "TaskError", "later", True),
            ("raise TaskError('m', kind='K')", "K", "m", False),
            ("sys.exit(3)", "SystemExit", "the task called sys.exit(3)", False),
            ("sys.exit()", "SystemExit", "the task called sys.exit()", False),
            ("raise KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt", False),
            ("raise GeneratorExit('g')", "GeneratorExit", "GeneratorExit: g", False),
            ("raise Odd", "Odd", "Odd (whose text cannot be had: RuntimeError)", False),
            ("raise ValueError('\\ud800 \\n x')", "ValueError", "\ud800 \n x", False),
        ]:
            with self.subTest(source):
                error = worker.run({"v": source})["error"]
                self.assertEqual(
                    (error["type"], error["message"], error["retryable"]),
                    (kind, message, retryable),
                )
                self.assertIn("Traceback", error["stack"])

    def test_a_result_that_json_has_no_form_for(self):
        worker = self.handler("return eval(task.record['v'])")
        for source in ("object()", "{(1, 2): 3}"):
            result = worker.run({"v": source})
            self.assertEqual(result["status"], "failed")
            self.assertIn("cannot be sent as JSON", result["error"]["message"])

    def test_a_very_deep_result_is_a_text(self):
        body = """
        value = None
        for _ in range(task.record["n"]):
            value = [value]
        sys.setrecursionlimit(5000)
        return value
        """
        worker = self.handler(body)
        self.assertIn("value", worker.run({"n": 900}))
        self.assertIn("valueText", worker.run({"n": 1200}))

    def test_what_a_task_is_told(self):
        body = "return [task.record, task.delivery, task.attempt, task.deadline, task.traceparent]"
        worker = self.handler(body)
        result = worker.run(
            {"a": 1}, delivery="r.9", attempt=2, deadlineUnixMs=1500, _meta={"traceparent": "00-1"}
        )
        self.assertEqual(result["value"], [{"a": 1}, "r.9", 2, 1.5, "00-1"])
        result = worker.run({}, delivery="r.10")
        self.assertEqual(result["value"], [{}, "r.10", 1, None, None])

    def test_log_and_progress_carry_the_delivery(self):
        worker = self.handler("task.log('half', 'warn', n=1); task.progress(0.5, 'so far')")
        worker.run({}, delivery="r.1")
        self.assertEqual(
            worker.notification("log")["params"],
            {"level": "warn", "message": "half", "delivery": "r.1", "fields": {"n": 1}},
        )
        self.assertEqual(
            worker.notification("$/progress")["params"],
            {"delivery": "r.1", "fraction": 0.5, "message": "so far"},
        )

    def test_waiting_is_said_once_for_all_threads(self):
        body = """
        with task.waiting():
            def also():
                with task.waiting():
                    pass
            thread = threading.Thread(target=also)
            thread.start()
            thread.join()
        """
        worker = self.handler(body)
        worker.run({}, delivery="r.1")
        self.assertEqual([m["method"] for m in worker.notifications], ["$/waiting", "$/resumed"])

    def test_many_in_flight_are_each_answered_once(self):
        for concurrency in (1, 4):
            with self.subTest(concurrency):
                worker = self.handler(
                    "return task.record['n']", f"handle, concurrency={concurrency}"
                )
                ids = {worker.begin({"n": n}): n for n in range(2000)}
                for request_id, n in ids.items():
                    self.assertEqual(worker.answer(request_id)["result"]["value"], n)

    def test_tasks_run_in_the_main_thread_when_there_is_one_slot(self):
        body = """
        import asyncio
        async def one():
            return threading.current_thread() is threading.main_thread()
        return asyncio.run(one())
        """
        self.assertIs(self.handler(body).run({})["value"], True)

    def test_slots_run_at_the_same_time(self):
        before = "barrier = threading.Barrier(4)\n"
        worker = self.handler("barrier.wait(20)", "handle, concurrency=4", before)
        ids = [worker.begin({}) for _ in range(8)]
        for request_id in ids:
            self.assertEqual(worker.answer(request_id)["result"]["status"], "succeeded")

    def test_slots_come_for_every_task_that_waits_for_others(self):
        # No slot is called while one is on its way: a call that is lost leaves
        # one of four alone at the barrier.
        before = "barrier = threading.Barrier(4)\n"
        worker = self.handler(
            "if task.record['meet']:\n    barrier.wait(20)", "handle, concurrency=4", before
        )
        for turn in range(150):
            meet = [n % (2 + turn % 3) == 0 for n in range(20)]
            meet += [True] * (-sum(meet) % 4)
            ids = [worker.begin({"meet": it}) for it in meet]
            for request_id in ids:
                self.assertEqual(worker.answer(request_id)["result"]["status"], "succeeded")

    def test_an_answer_does_not_wait_for_the_task_after_it(self):
        before = "gate = threading.Event()\n"
        body = "if task.record['do']:\n    getattr(gate, task.record['do'])()"
        worker = self.handler(body, "handle, concurrency=3", before)
        for _ in range(50):
            short, *long = [worker.begin({"do": it}) for it in ("", "wait", "wait")]
            worker.answer(short)
            worker.run({"do": "set"})
            for request_id in long:
                worker.answer(request_id)
            worker.run({"do": "clear"})


class Messages(WorkerCase):
    def echo(self, **options) -> Worker:
        return self.handler("return task.record", **options)

    def test_ids_come_back_as_they_were(self):
        worker = self.echo()
        for given in ("17", "-0", "0", '"a\\u0041"', "1.50", "1e2", "-7", "null"):
            params = '{"delivery":"d","record":{}}'
            worker.raw(
                f'{{"jsonrpc":"2.0","id":{given},"method":"task/run","params":{params}}}\n'.encode()
            )
            line = worker._lines.get(timeout=30)
            self.assertIn(f'"id":{given},'.encode(), line)

    def test_a_cancel_finds_an_id_however_it_is_written(self):
        worker = self.handler("time.sleep(60)")
        params = '{"delivery":"d","record":{}}'
        for given, other in (('"a\\u0041"', '"aA"'), ("1.50", "1.5"), ("7", "7")):
            worker.raw(
                f'{{"jsonrpc":"2.0","id":{given},"method":"task/run","params":{params}}}\n'
                f'{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":{other}}}}}\n'.encode()
            )
            line = worker._lines.get(timeout=30)
            self.assertIn(b"-32800", line)

    def test_pings_and_unknown_methods(self):
        worker = self.echo()
        self.assertEqual(worker.call("ping")["result"], {})
        self.assertEqual(worker.call("no/such")["error"]["code"], -32601)
        worker.notify("no/such")
        self.assertEqual(worker.call("ping", {})["result"], {})

    def test_bad_params(self):
        worker = self.echo()
        for params in (
            None,
            [],
            {},
            {"delivery": "d"},
            {"record": {}},
            {"delivery": 1, "record": {}},
            {"delivery": "d", "record": "text"},
        ):
            with self.subTest(params=params):
                answer = worker.call("task/run", params)
                self.assertEqual(answer["error"]["code"], -32602)

    def test_lines_that_are_no_messages(self):
        worker = self.echo()
        worker.raw(b"\n  \r\n")
        for line, code in [
            (b"noise", -32700),
            (b'{"jsonrpc":"2.0","id":4,"method":"ping"', -32700),
            (b'"text"', -32600),
            (b"[]", -32600),
            (b"7", -32600),
            (b'\xff{"jsonrpc"', -32700),
        ]:
            with self.subTest(line):
                worker.raw(line + b"\n")
                self.assertEqual(worker.receive("an error")["error"]["code"], code)
        worker.raw(b'  {"jsonrpc":"2.0", "id" : 5 , "method":"ping"}  \r\n')
        self.assertEqual(worker.receive("a pong"), {"jsonrpc": "2.0", "id": 5, "result": {}})

    def test_a_record_that_python_cannot_read_fails_its_task(self):
        worker = self.echo()
        for record in ("[" * 100_000 + "]" * 100_000, "1" * 5000):
            with self.subTest(record[:3]):
                worker.raw(
                    b'{"jsonrpc":"2.0","id":8,"method":"task/run","params":{"delivery":"d","record":'
                    b'{"a":' + record.encode() + b"}}}\n"
                )
                result = worker.answer(8)["result"]
                self.assertEqual(result["status"], "failed")
                self.assertIn("not read as JSON by Python", result["error"]["message"])

    def test_messages_over_the_limit(self):
        for limit, fits, over in ((5000, 4800, 5001), (10, 3900, 4097)):
            worker = self.echo(limit=limit)
            answer = worker.answer(worker.begin({"x": "y" * over}))
            self.assertEqual(answer["error"]["code"], -32600)
            self.assertEqual(worker.run({"x": "y" * fits})["value"], {"x": "y" * fits})

    def test_results_over_the_limit(self):
        worker = self.handler("return 'x' * task.record['n']", limit=5000)
        overhead = len('{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":""}}')
        self.assertEqual(worker.run({"n": 5000 - overhead})["status"], "succeeded")
        error = worker.run({"n": 5001 - overhead})["error"]
        self.assertEqual(error["type"], "ResultTooLarge")
        self.assertIn("5001 bytes, more than the 5000", error["message"])

    def test_error_texts_over_the_limit(self):
        worker = self.handler("raise ValueError('x' * 10**6)", limit=5000)
        error = worker.run({})["error"]
        self.assertEqual(error["type"], "ValueError")
        self.assertTrue(error["message"].startswith("xxx"))

    def test_six_megabytes_each_way(self):
        record = {"x": "ab\u00e9" * 2_000_000}
        self.assertEqual(self.echo().run(record)["value"], record)


if __name__ == "__main__":
    unittest.main()
