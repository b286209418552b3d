"""serve(): signals, forks and the end."""

import os
import signal
import subprocess
import sys
import time
import unittest

from tests.support import PATIENCE, ROOT, WorkerCase, until


class Stops(WorkerCase):
    def test_a_signal_drains_and_the_task_finishes(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                body = """
                open(task.record["f"], "w").close()
                while not os.path.exists(task.record["go"]):
                    time.sleep(0.01)
                return "finished"
                """
                worker = self.handler(body)
                folder = self.folder()
                record = {"f": str(folder / "started"), "go": str(folder / "go")}
                running = worker.begin(record)
                unstarted = worker.begin(record)
                until((folder / "started").exists, "the task's start")
                worker.signal(number)
                worker.notification("$/draining")
                self.assertEqual(worker.answer(unstarted)["error"]["code"], -32001)
                self.assertEqual(
                    worker.call("task/run", {"delivery": "d", "record": {}})["error"]["code"],
                    -32001,
                )
                self.assertEqual(worker.call("ping")["result"], {})
                worker.signal(number)
                (folder / "go").touch()
                self.assertEqual(worker.answer(running)["result"]["value"], "finished")
                worker.notify("shutdown", {"budgetMs": 1000})
                self.assertEqual(worker.wait(), 0)
                self.assertEqual(worker.notifications, [])

    def test_a_signal_while_the_main_thread_is_inside_c(self):
        # No Python code runs in the main thread until the expression is done.
        worker = self.handler(
            "open(task.record['f'], 'w').close(); return len(str(3 ** 600000))",
            env={"PYTHONINTMAXSTRDIGITS": "0"},
        )
        flag = self.folder() / "started"
        task = worker.begin({"f": str(flag)})
        until(flag.exists, "the task's start")
        worker.signal(signal.SIGTERM)
        worker.notification("$/draining")
        self.assertEqual(worker.answer(task)["result"]["value"], 286273)

    def test_signals_work_again_after_a_task_has_taken_them(self):
        body = """
        import asyncio
        async def take():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, print)
            loop.remove_signal_handler(signal.SIGTERM)
        asyncio.run(take())
        """
        worker = self.handler(body)
        self.assertEqual(worker.run({})["status"], "succeeded")
        worker.signal(signal.SIGTERM)
        worker.notification("$/draining")

    def test_shutdown_finishes_what_runs_and_hands_back_the_rest(self):
        for concurrency in (1, 2):
            with self.subTest(concurrency):
                body = """
                print("started")
                while not os.path.exists(task.record["go"]):
                    time.sleep(0.01)
                return "done"
                """
                worker = self.handler(body, f"handle, concurrency={concurrency}")
                go = self.folder() / "go"
                ids = [worker.begin({"go": str(go)}) for _ in range(concurrency + 2)]
                until(lambda: worker.log().count("started") == concurrency, "the tasks' start")
                worker.notify("shutdown", {"budgetMs": 20000})
                for request_id in ids[concurrency:]:
                    self.assertEqual(worker.answer(request_id)["error"]["code"], -32001)
                self.assertEqual(worker.call("ping")["result"], {})
                go.touch()
                for request_id in ids[:concurrency]:
                    self.assertEqual(worker.answer(request_id)["result"]["value"], "done")
                self.assertEqual(worker.rest(), [])
                self.assertEqual(worker.wait(), 0)

    def test_a_signal_during_the_setup_is_told_after_the_greeting(self):
        before = """
        def setup():
            open("started", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
        """
        folder = self.folder()
        worker = self.handler("pass", "handle, setup=setup", before, greet=False, cwd=str(folder))
        asked = worker.start("initialize", {"protocolVersion": 1})
        until((folder / "started").exists, "the setup")
        worker.signal(signal.SIGTERM)
        worker.call("ping")
        (folder / "go").touch()
        worker.notification("$/draining")
        self.assertIn("result", worker.answer(asked))
        self.assertEqual(
            worker.call("task/run", {"delivery": "d", "record": {}})["error"]["code"], -32001
        )

    def test_without_a_sidecar_it_says_so(self):
        script = self.script("from graflow_sidecar import serve\nserve(print)\n")
        for stdin in (subprocess.DEVNULL, subprocess.PIPE):
            done = subprocess.run(
                [sys.executable, script],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                timeout=PATIENCE,
                **({"stdin": stdin} if stdin == subprocess.DEVNULL else {"input": b""}),
            )
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(b"Run it as: sidecar run -- COMMAND", done.stderr)

    def test_shutdown_when_idle_and_before_initialize(self):
        for options in ({}, {"greet": False}):
            worker = self.handler("pass", **options)
            worker.notify("shutdown")
            self.assertEqual(worker.wait(), 0)

    def test_the_end_of_the_input_ends_it_within_a_second(self):
        stubborn = """
        open(task.record["f"], "w").close()
        while True:
            try:
                time.sleep(60)
            except BaseException:
                print("not me")
        """
        for name, body, status in [
            ("idle", None, 0),
            ("asleep", "open(task.record['f'], 'w').close(); time.sleep(60)", 0),
            ("stubborn", stubborn, 1),
        ]:
            for concurrency in (1, 2):
                with self.subTest(name, concurrency=concurrency):
                    worker = self.handler(body or "pass", f"handle, concurrency={concurrency}")
                    if body:
                        flag = self.folder() / "started"
                        worker.begin({"f": str(flag)})
                        until(flag.exists, "the task's start")
                    start = time.monotonic()
                    worker.end_input()
                    code = worker.wait()
                    self.assertLess(time.monotonic() - start, 2.0)
                    if concurrency == 1:
                        self.assertEqual(code, status)

    def test_a_thread_left_behind_does_not_hold_up_the_end(self):
        worker = self.handler("threading.Thread(target=time.sleep, args=(60,)).start()")
        worker.run({})
        start = time.monotonic()
        worker.end_input()
        self.assertEqual(worker.wait(), 0)
        self.assertLess(time.monotonic() - start, 2.0)

    def test_a_sidecar_that_goes_away(self):
        read_end, write_end = os.pipe()
        script = self.script(
            "from graflow_sidecar import serve\nserve(lambda task: 'x' * 100000)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        worker = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=write_end,
            stderr=subprocess.PIPE,
            env=environment,
        )
        os.close(write_end)
        os.close(read_end)
        lines = (
            b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'
            b'{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"d","record":{}}}\n'
        )
        _, log = worker.communicate(lines, timeout=PATIENCE)
        self.assertEqual((worker.returncode, log), (0, b""))


class Forks(WorkerCase):
    def test_multiprocessing_in_a_task(self):
        for method in ("fork", "spawn"):
            with self.subTest(method):
                folder = self.folder()
                (folder / "helper.py").write_text(
                    "def double(n):\n    print('in a child')\n    return 2 * n\n"
                )
                body = f"""
                import helper, multiprocessing
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    return pool.map(helper.double, [1, 2, 3])
                """
                env = {"PYTHONPATH": f"{folder}:{ROOT}"}
                worker = self.handler(body, env=env)
                self.assertEqual(worker.run({})["value"], [2, 4, 6])
                self.assertEqual(worker.noise, [])

    def test_a_forked_child_can_be_terminated(self):
        body = """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(20)
        return child.exitcode
        """
        self.assertEqual(self.handler(body).run({})["value"], -signal.SIGTERM)

    def test_every_way_out_of_a_forked_child_is_that_of_any_program(self):
        body = """
        pid = os.fork()
        if pid == 0:
            if task.record["way"] == "return":
                return "from the child"
            exec(task.record["way"])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """
        ways = [
            ("sys.exit(3)", 3, ""),
            ("sys.exit()", 0, ""),
            ("sys.exit(259)", 3, ""),
            ("sys.exit('its last words')", 1, "its last words\n"),
            ("raise SystemExit(True)", 1, ""),
            ("os._exit(4)", 4, ""),
            ("return", 0, ""),
            ("raise ValueError('in the child')", 1, "ValueError: in the child\n"),
            ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
            ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
            ("for _ in range(20_000): task.log('x')\nsys.exit()", 0, ""),
        ]
        for serve in ("handle", "handle, concurrency=2", "coroutine"):
            with self.subTest(serve):
                before = "async def coroutine(task):\n    return handle(task)\n"
                worker = self.handler(body, serve, before)
                for way, status, said in ways:
                    before = len(worker.log())
                    self.assertEqual(worker.run({"way": way})["value"], status, way)
                    if said:
                        worker.logged(said)
                    else:
                        self.assertEqual(worker.log()[before:], "", way)
                self.assertEqual(worker.call("ping")["result"], {})
                self.assertEqual((worker.other, worker.noise, worker.notifications), ([], [], []))

    def test_the_loop_of_a_coroutine_outlives_a_forked_child(self):
        before = """
        import asyncio
        async def coroutine(task):
            pid = os.fork()
            if pid == 0:
                sys.exit(3)
            status = os.waitpid(pid, 0)[1]
            # By the pipe that wakes the loop up.
            return [os.waitstatus_to_exitcode(status), await asyncio.to_thread(os.getpid)]
        """
        worker = self.handler("pass", "coroutine", before)
        self.assertEqual(worker.run({})["value"], [3, worker.process.pid])

    def test_a_forked_child_of_the_setup(self):
        for way, status in (("sys.exit(3)", 3), ("raise ValueError", 1), ("return", 0)):
            before = f"""
            def setup():
                pid = os.fork()
                if pid == 0:
                    {way}
                else:
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    return lambda task: status
            """
            worker = self.handler("pass", "handle, setup=setup", before)
            self.assertEqual(worker.run({})["value"], status, way)

    def test_a_forked_child_runs_its_own_exit_handlers_and_not_the_workers(self):
        before = """
        import atexit, concurrent.futures
        atexit.register(print, "of the worker")
        pool = concurrent.futures.ThreadPoolExecutor(1)
        """
        body = """
        def end_late():
            time.sleep(0.1)
            print("of its thread")
        def fork():
            pid = os.fork()
            if pid == 0:
                atexit.register(print, "of the child")
                concurrent.futures.ThreadPoolExecutor(1).submit(print, "of its pool")
                threading.Thread(target=end_late).start()
                handle.fork_ends()
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        handle.fork_ends = lambda: sys.exit(3)
        pool.submit(int).result()
        return fork()
        """
        worker = self.handler(body, before=before)
        self.assertEqual(worker.run({})["value"], 3)
        worker.logged("of the child")
        self.assertIn("of its thread", worker.log())
        self.assertIn("of its pool", worker.log())
        self.assertNotIn("of the worker", worker.log())
        worker.notify("shutdown")
        self.assertEqual(worker.wait(), 0)
        worker.logged("of the worker")

    def test_a_forked_child_has_nothing_of_the_protocol(self):
        body = """
        pid = os.fork()
        if pid == 0:
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in (range(3, 40))
                     if os.path.exists(f"/proc/self/fd/{fd}")]
            sys.exit(sum(link.startswith("pipe:") for link in links))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """
        self.assertEqual(self.handler(body).run({})["value"], 0)

    def test_a_forked_child_does_not_hold_the_pipes(self):
        body = """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        context.Process(target=time.sleep, args=(60,), daemon=False).start()
        """
        worker = self.handler(body)
        worker.run({})
        worker.end_input()
        self.assertEqual(worker.rest(), [])


if __name__ == "__main__":
    unittest.main()
