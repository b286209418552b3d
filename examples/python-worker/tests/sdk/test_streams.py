"""serve(): standard streams and cancels."""

import unittest

from tests.support import WorkerCase, until


class Streams(WorkerCase):
    def test_prints_go_to_the_log(self):
        body = """
        print("from print")
        sys.stdout.write("no line end")
        os.write(1, b"from the descriptor\\n")
        os.system("echo from a shell")
        """
        worker = self.handler(body, before="print('while importing')\n")
        self.assertEqual(worker.run({})["status"], "succeeded")
        for text in ("while importing", "from print", "from the descriptor", "from a shell"):
            worker.logged(text)
        self.assertEqual(worker.noise, [])

    def test_what_was_printed_before_is_not_in_front_of_the_first_message(self):
        worker = self.handler("return 1", before="os.write(1, b'loading')\n")
        self.assertEqual(worker.run({})["value"], 1)
        self.assertEqual(worker.noise, [b"loading"])

    def test_each_line_is_flushed_at_once(self):
        worker = self.handler("print('now'); time.sleep(60)")
        worker.begin({})
        worker.logged("now")

    def test_text_that_no_encoding_has(self):
        worker = self.handler(
            "print('\\ud800 \\u20ac'); return 1", env={"LC_ALL": "C", "PYTHONUTF8": "0"}
        )
        self.assertEqual(worker.run({})["value"], 1)
        worker.logged("\\ud800 \u20ac")

    def test_reading_the_input_gives_its_end(self):
        body = """
        try:
            input()
        except EOFError:
            return [sys.stdin.read(), os.read(0, 10).decode(), os.popen("cat").read()]
        """
        self.assertEqual(self.handler(body).run({})["value"], ["", "", ""])

    def test_a_flood_breaks_nothing(self):
        body = """
        for n in range(2000):
            print("x" * 100)
            sys.stderr.write("y" * 100)
        return n
        """
        worker = self.handler(body)
        self.assertEqual(worker.run({})["value"], 1999)
        self.assertEqual(worker.noise, [])

    def test_programs_that_a_task_starts_do_not_hold_the_pipes(self):
        worker = self.handler("import subprocess; return subprocess.Popen(['sleep', '60']).pid")
        worker.run({})
        worker.notify("shutdown")
        self.assertEqual(worker.rest(), [])
        self.assertEqual(worker.wait(), 0)


class Cancels(WorkerCase):
    SLEEP = "open(task.record['f'], 'w').close(); time.sleep(60)"

    def test_a_running_task(self):
        for concurrency, body in [
            (1, self.SLEEP),
            (3, self.SLEEP.replace("time.sleep(60)", "\nwhile True: time.sleep(.01)")),
        ]:
            with self.subTest(concurrency):
                worker = self.handler(body, f"handle, concurrency={concurrency}")
                flag = self.folder() / "started"
                task = worker.begin({"f": str(flag)})
                until(flag.exists, "the task's start")
                worker.notify("$/cancelRequest", {"id": task})
                worker.notify("$/cancelRequest", {"id": task})
                self.assertEqual(worker.answer(task)["error"]["code"], -32800)
                (self.folder() / "x")
                again = worker.begin({"f": str(self.folder() / "again")})
                worker.notify("$/cancelRequest", {"id": again})
                self.assertEqual(worker.answer(again)["error"]["code"], -32800)
                self.assertEqual(worker.call("ping")["result"], {})

    def test_finally_runs_and_except_exception_does_not_hold_it(self):
        body = """
        try:
            try:
                open(task.record["f"], "w").close()
                time.sleep(60)
            except Exception:
                return "held"
        finally:
            print("cleaned up")
        """
        worker = self.handler(body)
        flag = self.folder() / "started"
        task = worker.begin({"f": str(flag)})
        until(flag.exists, "the task's start")
        worker.notify("$/cancelRequest", {"id": task})
        self.assertEqual(worker.answer(task)["error"]["code"], -32800)
        worker.logged("cleaned up")

    def test_an_unstarted_task_is_never_run(self):
        worker = self.handler(
            "print('ran', task.record['n']); threading.Event().wait(task.record['n'])"
        )
        first = worker.begin({"n": 60})
        second = worker.begin({"n": 61})
        worker.notify("$/cancelRequest", {"id": second})
        self.assertEqual(worker.answer(second)["error"]["code"], -32800)
        worker.notify("$/cancelRequest", {"id": first})
        self.assertEqual(worker.answer(first)["error"]["code"], -32800)
        self.assertNotIn("ran 61", worker.log())

    def test_a_result_in_spite_of_it_counts(self):
        body = """
        open(task.record["f"], "w").close()
        try:
            time.sleep(60)
        except TaskCancelled:
            return task.cancelled
        """
        worker = self.handler(body)
        flag = self.folder() / "started"
        task = worker.begin({"f": str(flag)})
        until(flag.exists, "the task's start")
        worker.notify("$/cancelRequest", {"id": task})
        self.assertEqual(worker.answer(task)["result"], {"status": "succeeded", "value": True})

    def test_one_for_a_task_that_has_ended_hits_no_other(self):
        for concurrency in (1, 2):
            worker = self.handler("return sum(range(2000))", f"handle, concurrency={concurrency}")
            for _ in range(300):
                first = worker.begin({})
                worker.notify("$/cancelRequest", {"id": first})
                second = worker.begin({})
                answer = worker.answer(first)
                self.assertTrue("result" in answer or answer["error"]["code"] == -32800)
                self.assertEqual(worker.answer(second)["result"]["value"], 1999000)
            worker.notify("$/cancelRequest", {"id": 10**9})
            worker.notify("$/cancelRequest", None)
            self.assertEqual(worker.call("ping")["result"], {})


if __name__ == "__main__":
    unittest.main()
