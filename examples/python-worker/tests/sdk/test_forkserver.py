"""The fork server, with a worker that is no Graflow's."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import unittest
from typing import Any, Dict, Set

from tests.support import PATIENCE, Worker, WorkerCase, until
from tests.forkserver import ForkServer, gone

BEFORE = """
import json, os, random, signal, socket, subprocess, sys, threading, time
from graflow_sidecar import _forkserver, serve
"""
SERVE = """
def main():
    serve(handle)

_forkserver.run(int(sys.argv[1]), preload, main)
"""


@unittest.skipUnless(sys.platform == "linux", "fork servers are for Linux")
class ForkServerTests(WorkerCase):
    def fork_server(self, handler: str = "", preload: str = "pass") -> ForkServer:
        source = BEFORE
        source += "def preload():\n" + textwrap.indent(textwrap.dedent(preload), "    ") + "\n"
        handler = textwrap.dedent(handler) or "return {'pid': os.getpid()}"
        source += "def handle(task):\n" + textwrap.indent(handler, "    ") + "\n"
        found = ForkServer([sys.executable, self.script(source + SERVE)])
        self.addCleanup(found.close)
        return found

    def forked(self, fork_server: ForkServer, **env: str) -> Worker:
        worker = fork_server.worker(**{"SIDECAR_PROCESS_ID": "w-0-1", **env})
        self.addCleanup(worker.close)
        return worker

    def value(self, worker: Worker, **record: Any) -> Any:
        result = worker.run({"task_id": "t", **record})
        self.assertEqual(result["status"], "succeeded", result)
        return result["value"]

    def test_a_fork_is_a_worker(self) -> None:
        fork_server = self.fork_server()
        self.assertEqual(fork_server.word, {"pid": fork_server.process.pid, "problem": ""})
        for _ in range(3):
            worker = self.forked(fork_server)
            self.assertEqual(self.value(worker), {"pid": worker.process.pid})
            worker.notify("shutdown")
            self.assertEqual(worker.wait(), 0)

    def test_a_fork_is_our_child_and_leads_its_group(self) -> None:
        worker = self.forked(
            self.fork_server(
                """
                import ctypes
                signal_of_death = ctypes.c_int()
                ctypes.CDLL(None).prctl(2, ctypes.byref(signal_of_death), 0, 0, 0)
                return [os.getppid(), os.getpgid(0), signal_of_death.value]
                """
            )
        )
        expected = [os.getpid(), worker.process.pid, int(signal.SIGKILL)]
        self.assertEqual(self.value(worker), expected)

    def test_exit_status_and_signal_reach_us(self) -> None:
        fork_server = self.fork_server("os._exit(7) if task.record.get('exit') else time.sleep(60)")
        worker = self.forked(fork_server)
        worker.begin({"exit": True})
        self.assertEqual(worker.wait(), 7)
        worker = self.forked(fork_server)
        worker.begin({})
        worker.signal(signal.SIGKILL)
        self.assertEqual(worker.wait(), -signal.SIGKILL)

    def test_the_environment_is_the_workers_own(self) -> None:
        fork_server = self.fork_server(
            """
            argv = [sys.executable, "-c", "import os; print(os.environ['SIDECAR_PROCESS_ID'])"]
            return [os.environ["SIDECAR_PROCESS_ID"], subprocess.check_output(argv, text=True)]
            """
        )
        first = self.forked(fork_server, SIDECAR_PROCESS_ID="w-1", ONLY="first")
        second = self.forked(fork_server, SIDECAR_PROCESS_ID="a-longer-one-2")
        self.assertEqual(self.value(first), ["w-1", "w-1\n"])
        self.assertEqual(self.value(second), ["a-longer-one-2", "a-longer-one-2\n"])
        # The memory that /proc shows, which a further fork inherits.
        for worker, mark in ((first, b"w-1"), (second, b"a-longer-one-2")):
            with open(f"/proc/{worker.process.pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
            marks = [entry for entry in entries if entry.startswith(b"SIDECAR_PROCESS_ID=")]
            self.assertEqual(marks, [b"SIDECAR_PROCESS_ID=" + mark])

    def test_an_id_that_has_no_room_is_refused(self) -> None:
        got, ours = self.fork_server().ask(SIDECAR_PROCESS_ID="x" * 1000)
        self.assertIn("has room for", got["error"])
        for fd in ours:
            os.close(fd)

    def test_no_fork_holds_what_is_anothers(self) -> None:
        fork_server = self.fork_server()
        workers = [self.forked(fork_server) for _ in range(3)]
        held = [open_files(worker.process.pid) for worker in workers]
        for number, files in enumerate(held):
            for other in held[number + 1 :]:
                shared = {file for file in files & other if file != "/dev/null"}
                self.assertEqual(shared, set())
        self.assertFalse([file for file in held[0] if file.startswith("socket:")])
        # Nothing more than a worker holds that was started the long way.
        alone = self.handler("return 1")
        self.assertEqual(kinds(workers[0].process.pid), kinds(alone.process.pid))
        # And the fork server keeps no descriptor of a worker.
        self.assertEqual(open_files(fork_server.process.pid) & held[0], {"/dev/null"})

    def test_the_end_of_its_input_ends_one_fork_alone(self) -> None:
        fork_server = self.fork_server()
        first, second = self.forked(fork_server), self.forked(fork_server)
        first.end_input()
        self.assertEqual(first.wait(), 0)
        self.assertEqual(self.value(second), {"pid": second.process.pid})

    def test_nothing_is_shared_that_a_new_process_has_of_its_own(self) -> None:
        fork_server = self.fork_server(
            """
            import gc, multiprocessing, tempfile, uuid
            main = threading.main_thread()
            unique = [
                random.random(), uuid.uuid4().hex, next(tempfile._get_candidate_names()),
                multiprocessing.current_process().authkey.hex(), main.native_id, os.getpid(),
            ]
            settled = [
                main.native_id == os.getpid(), multiprocessing.current_process().pid == os.getpid(),
                threading.current_thread() is main, gc.isenabled(), gc.get_freeze_count() > 0,
            ]
            return [unique, settled]
            """,
            preload="import multiprocessing, tempfile, uuid\nrandom.seed(1)",
        )
        answers = [self.value(self.forked(fork_server)) for _ in range(3)]
        for unique in zip(*(answer[0] for answer in answers)):
            self.assertEqual(len(set(unique)), 3, unique)
        self.assertEqual(answers[0][1], [True] * 5)

    def test_prints_and_logs_go_to_the_forks_own_stderr(self) -> None:
        fork_server = self.fork_server(
            """
            import logging
            print("printed", task.record["who"])
            os.write(1, b"written " + task.record["who"].encode() + b"\\n")
            logging.getLogger().warning("logged %s", task.record["who"])
            return sys.stdin.read()
            """,
            preload="import logging\nlogging.basicConfig()\nprint('from an import')",
        )
        first, second = self.forked(fork_server), self.forked(fork_server)
        for worker, who in ((first, "first"), (second, "second")):
            self.assertEqual(self.value(worker, who=who), "")
            for text in ("printed", "written", "logged"):
                worker.logged(f"{text} {who}")
            self.assertEqual(worker.noise, [])
        self.assertNotIn("second", first.log())
        self.assertNotIn("from an import", first.log() + second.log())

    def test_a_stop_signal_reaches_the_worker_and_not_the_fork_server(self) -> None:
        fork_server = self.fork_server()
        worker = self.forked(fork_server)
        for number in (signal.SIGTERM, signal.SIGINT):
            fork_server.process.send_signal(number)
        worker.signal(signal.SIGTERM)
        worker.notification("$/draining")
        self.assertEqual(self.value(self.forked(fork_server)).keys(), {"pid"})
        self.assertIsNone(fork_server.process.poll())

    def test_signals_are_those_of_a_worker_that_is_started_the_long_way(self) -> None:
        body = """
        def told():
            with open("/proc/self/status") as file:
                return [line for line in file if line.startswith("Sig") and line[3] != "Q"]
        argv = ["grep", "Sig[BIC]", "/proc/self/status"]
        started = subprocess.check_output(argv, text=True, restore_signals=False)
        numbers = (signal.SIGCHLD, signal.SIGPIPE)
        handlers = [type(signal.getsignal(number)).__name__ for number in numbers]
        return [told(), started, handlers]
        """
        preloads = [
            "pass",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))",
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
            # It takes the end of a child away from the one that waits for it.
            "signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))",
        ]
        for preload in preloads:
            with self.subTest(preload):
                before = BEFORE.replace("from graflow_sidecar", preload + "\nfrom graflow_sidecar")
                alone = self.handler(body, before=before)
                fork_server = self.fork_server(body, preload=preload)
                fork_server.process.send_signal(signal.SIGTERM)  # of a control group's stop
                for _ in range(2):
                    self.assertEqual(self.value(self.forked(fork_server)), self.value(alone))

    def test_the_mask_of_the_starter_does_not_reach_the_forks(self) -> None:
        mask = "return [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())]"
        fork_server = self.fork_server(mask, preload="signal.pthread_sigmask(signal.SIG_BLOCK, (1, 15, 17))")
        self.assertEqual(self.value(self.forked(fork_server)), [])

    def test_sigint_is_a_keyboard_interrupt_again_in_what_a_task_starts(self) -> None:
        worker = self.forked(
            self.fork_server(
                """
                argv = [sys.executable, "-c", "import signal; print(signal.getsignal(2).__name__)"]
                return subprocess.check_output(argv, text=True)
                """
            )
        )
        self.assertEqual(self.value(worker), "default_int_handler\n")

    def test_forks_outlive_the_fork_server(self) -> None:
        for end in (ForkServer.kill, lambda fork_server: fork_server.control.close()):
            fork_server = self.fork_server()
            worker = self.forked(fork_server)
            end(fork_server)
            fork_server.process.wait(PATIENCE)
            self.assertEqual(self.value(worker), {"pid": worker.process.pid})
            worker.notify("shutdown")
            self.assertEqual(worker.wait(), 0)

    def test_a_fork_that_nobody_takes_over_ends(self) -> None:
        fork_server = self.fork_server("return 1")
        got, ours = fork_server.ask(accept=False, SIDECAR_PROCESS_ID="w")
        gone(got["pid"])
        self.assertEqual(os.read(ours[1], 1), b"")
        for fd in ours:
            os.close(fd)

    def test_a_fork_that_somebody_else_adopts_is_refused(self) -> None:
        got, ours = self.fork_server().ask(parent=1)
        self.assertIn("has adopted the fork", got["error"])
        for fd in ours:
            os.close(fd)

    def test_what_must_not_be_forked_says_so(self) -> None:
        for preload, expected in (
            ("threading.Thread(target=time.sleep, args=(60,), name='t-1', daemon=True).start()", "t-1"),
            ("global held\nheld = socket.socket()", "opened a connection"),
            ("import select\nglobal held\nheld = select.epoll()", "eventpoll"),
            ("raise ImportError('libx.so.1')", "ImportError: libx.so.1"),
        ):
            with self.subTest(expected):
                fork_server = self.fork_server(preload=preload)
                self.assertIn(expected, fork_server.word["problem"])

    def test_a_thread_that_comes_later_is_noticed(self) -> None:
        fork_server = self.fork_server(
            preload="""
            def start(*_):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            signal.signal(signal.SIGUSR1, start)
            """
        )
        self.value(self.forked(fork_server))
        fork_server.process.send_signal(signal.SIGUSR1)
        tasks = f"/proc/{fork_server.process.pid}/task"
        until(lambda: len(os.listdir(tasks)) == 2, "a thread")
        got, ours = fork_server.ask(SIDECAR_PROCESS_ID="w")
        self.assertIn("2 threads", got["error"])
        for fd in ours:
            os.close(fd)

    def test_the_fork_between_leaves_no_zombie(self) -> None:
        fork_server = self.fork_server()
        self.forked(fork_server)
        with open(f"/proc/{fork_server.process.pid}/task/{fork_server.process.pid}/children") as file:
            self.assertEqual(file.read().split(), [])

    def test_without_graflow_a_fork_says_what_a_worker_says(self) -> None:
        source = (
            "import sys; sys.modules['graflow'] = None\n"
            "from graflow_sidecar.graflow import fork_server\n"
            "fork_server(int(sys.argv.pop(1)))"
        )
        fork_server = ForkServer([sys.executable, "-c", source])
        self.addCleanup(fork_server.close)
        self.assertEqual(fork_server.word["problem"], "")
        worker = self.forked(fork_server)
        self.assertIn("Graflow is not installed", worker.greeting["error"]["message"])
        self.assertEqual(worker.wait(), 1)


def open_files(pid: int) -> Set[str]:
    """What the descriptors of a process lead to."""
    folder = f"/proc/{pid}/fd"
    return {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}


def kinds(pid: int) -> Dict[int, str]:
    """What kind of file stands behind each descriptor of a process."""
    folder = f"/proc/{pid}/fd"
    return {int(fd): os.readlink(f"{folder}/{fd}").partition(":")[0] for fd in os.listdir(folder)}


if __name__ == "__main__":
    unittest.main()
