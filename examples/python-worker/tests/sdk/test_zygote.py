"""The fork server, with a worker that is no Graflow's."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import unittest
from typing import Any, Dict, Set

from tests.support import PATIENCE, Worker, WorkerCase, until
from tests.zygote import Zygote, gone

BEFORE = """
import json, os, random, signal, socket, subprocess, sys, threading, time
from graflow_sidecar import _zygote, serve
"""
SERVE = """
def main():
    serve(handle)

_zygote.run(int(sys.argv[1]), preload, main)
"""


@unittest.skipUnless(sys.platform == "linux", "fork servers are for Linux")
class ZygoteTests(WorkerCase):
    def zygote(self, handler: str = "", preload: str = "pass") -> Zygote:
        source = BEFORE
        source += "def preload():\n" + textwrap.indent(textwrap.dedent(preload), "    ") + "\n"
        handler = textwrap.dedent(handler) or "return {'pid': os.getpid()}"
        source += "def handle(task):\n" + textwrap.indent(handler, "    ") + "\n"
        found = Zygote([sys.executable, self.script(source + SERVE)])
        self.addCleanup(found.close)
        return found

    def forked(self, zygote: Zygote, **env: str) -> Worker:
        worker = zygote.worker(**{"SIDECAR_PROCESS_ID": "w-0-1", **env})
        self.addCleanup(worker.close)
        return worker

    def value(self, worker: Worker, **record: Any) -> Any:
        result = worker.run({"task_id": "t", **record})
        self.assertEqual(result["status"], "succeeded", result)
        return result["value"]

    def test_a_fork_is_a_worker(self) -> None:
        zygote = self.zygote()
        self.assertEqual(zygote.word, {"pid": zygote.process.pid, "problem": ""})
        for _ in range(3):
            worker = self.forked(zygote)
            self.assertEqual(self.value(worker), {"pid": worker.process.pid})
            worker.notify("shutdown")
            self.assertEqual(worker.wait(), 0)

    def test_a_fork_is_our_child_and_leads_its_group(self) -> None:
        worker = self.forked(
            self.zygote(
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
        zygote = self.zygote("os._exit(7) if task.record.get('exit') else time.sleep(60)")
        worker = self.forked(zygote)
        worker.begin({"exit": True})
        self.assertEqual(worker.wait(), 7)
        worker = self.forked(zygote)
        worker.begin({})
        worker.signal(signal.SIGKILL)
        self.assertEqual(worker.wait(), -signal.SIGKILL)

    def test_the_environment_is_the_workers_own(self) -> None:
        zygote = self.zygote(
            """
            argv = [sys.executable, "-c", "import os; print(os.environ['SIDECAR_PROCESS_ID'])"]
            return [os.environ["SIDECAR_PROCESS_ID"], subprocess.check_output(argv, text=True)]
            """
        )
        first = self.forked(zygote, SIDECAR_PROCESS_ID="w-1", ONLY="first")
        second = self.forked(zygote, SIDECAR_PROCESS_ID="a-longer-one-2")
        self.assertEqual(self.value(first), ["w-1", "w-1\n"])
        self.assertEqual(self.value(second), ["a-longer-one-2", "a-longer-one-2\n"])
        # The memory that /proc shows, which a further fork inherits.
        for worker, mark in ((first, b"w-1"), (second, b"a-longer-one-2")):
            with open(f"/proc/{worker.process.pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
            marks = [entry for entry in entries if entry.startswith(b"SIDECAR_PROCESS_ID=")]
            self.assertEqual(marks, [b"SIDECAR_PROCESS_ID=" + mark])

    def test_an_id_that_has_no_room_is_refused(self) -> None:
        got, ours = self.zygote().ask(SIDECAR_PROCESS_ID="x" * 1000)
        self.assertIn("has room for", got["error"])
        for fd in ours:
            os.close(fd)

    def test_no_fork_holds_what_is_anothers(self) -> None:
        zygote = self.zygote()
        workers = [self.forked(zygote) for _ in range(3)]
        held = [open_files(worker.process.pid) for worker in workers]
        for number, files in enumerate(held):
            for other in held[number + 1 :]:
                shared = {file for file in files & other if file != "/dev/null"}
                self.assertEqual(shared, set())
        self.assertFalse([file for file in held[0] if file.startswith("socket:")])
        # Nothing more than a worker holds that was started the long way.
        alone = self.handler("return 1")
        self.assertEqual(kinds(workers[0].process.pid), kinds(alone.process.pid))
        # And the zygote keeps nothing of anybody's.
        self.assertEqual(open_files(zygote.process.pid) & held[0], {"/dev/null"})

    def test_the_end_of_its_input_ends_one_fork_alone(self) -> None:
        zygote = self.zygote()
        first, second = self.forked(zygote), self.forked(zygote)
        first.end_input()
        self.assertEqual(first.wait(), 0)
        self.assertEqual(self.value(second), {"pid": second.process.pid})

    def test_nothing_is_shared_that_a_new_process_has_of_its_own(self) -> None:
        zygote = self.zygote(
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
        answers = [self.value(self.forked(zygote)) for _ in range(3)]
        for unique in zip(*(answer[0] for answer in answers)):
            self.assertEqual(len(set(unique)), 3, unique)
        self.assertEqual(answers[0][1], [True] * 5)

    def test_prints_and_logs_go_to_the_forks_own_stderr(self) -> None:
        zygote = self.zygote(
            """
            import logging
            print("printed", task.record["who"])
            os.write(1, b"written " + task.record["who"].encode() + b"\\n")
            logging.getLogger().warning("logged %s", task.record["who"])
            return sys.stdin.read()
            """,
            preload="import logging\nlogging.basicConfig()\nprint('from an import')",
        )
        first, second = self.forked(zygote), self.forked(zygote)
        for worker, who in ((first, "first"), (second, "second")):
            self.assertEqual(self.value(worker, who=who), "")
            for text in ("printed", "written", "logged"):
                worker.logged(f"{text} {who}")
            self.assertEqual(worker.noise, [])
        self.assertNotIn("second", first.log())
        self.assertNotIn("from an import", first.log() + second.log())

    def test_a_stop_signal_reaches_the_worker_and_not_the_zygote(self) -> None:
        zygote = self.zygote()
        worker = self.forked(zygote)
        for number in (signal.SIGTERM, signal.SIGINT):
            zygote.process.send_signal(number)
        worker.signal(signal.SIGTERM)
        worker.notification("$/draining")
        self.assertEqual(self.value(self.forked(zygote)).keys(), {"pid"})
        self.assertIsNone(zygote.process.poll())

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
                zygote = self.zygote(body, preload=preload)
                zygote.process.send_signal(signal.SIGTERM)  # of a control group's stop
                for _ in range(2):
                    self.assertEqual(self.value(self.forked(zygote)), self.value(alone))

    def test_the_mask_of_the_starter_does_not_reach_the_forks(self) -> None:
        mask = "return [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())]"
        zygote = self.zygote(mask, preload="signal.pthread_sigmask(signal.SIG_BLOCK, (1, 15, 17))")
        self.assertEqual(self.value(self.forked(zygote)), [])

    def test_sigint_is_a_keyboard_interrupt_again_in_what_a_task_starts(self) -> None:
        worker = self.forked(
            self.zygote(
                """
                argv = [sys.executable, "-c", "import signal; print(signal.getsignal(2).__name__)"]
                return subprocess.check_output(argv, text=True)
                """
            )
        )
        self.assertEqual(self.value(worker), "default_int_handler\n")

    def test_forks_outlive_the_zygote(self) -> None:
        for end in (Zygote.kill, lambda zygote: zygote.control.close()):
            zygote = self.zygote()
            worker = self.forked(zygote)
            end(zygote)
            zygote.process.wait(PATIENCE)
            self.assertEqual(self.value(worker), {"pid": worker.process.pid})
            worker.notify("shutdown")
            self.assertEqual(worker.wait(), 0)

    def test_a_fork_that_nobody_takes_over_ends(self) -> None:
        zygote = self.zygote("return 1")
        got, ours = zygote.ask(accept=False, SIDECAR_PROCESS_ID="w")
        gone(got["pid"])
        self.assertEqual(os.read(ours[1], 1), b"")
        for fd in ours:
            os.close(fd)

    def test_a_fork_that_somebody_else_adopts_is_refused(self) -> None:
        got, ours = self.zygote().ask(parent=1)
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
                zygote = self.zygote(preload=preload)
                self.assertIn(expected, zygote.word["problem"])

    def test_a_thread_that_comes_later_is_noticed(self) -> None:
        zygote = self.zygote(
            preload="""
            def start(*_):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            signal.signal(signal.SIGUSR1, start)
            """
        )
        self.value(self.forked(zygote))
        zygote.process.send_signal(signal.SIGUSR1)
        tasks = f"/proc/{zygote.process.pid}/task"
        until(lambda: len(os.listdir(tasks)) == 2, "a thread")
        got, ours = zygote.ask(SIDECAR_PROCESS_ID="w")
        self.assertIn("2 threads", got["error"])
        for fd in ours:
            os.close(fd)

    def test_the_fork_between_leaves_no_zombie(self) -> None:
        zygote = self.zygote()
        self.forked(zygote)
        with open(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children") as file:
            self.assertEqual(file.read().split(), [])

    def test_without_graflow_a_fork_says_what_a_worker_says(self) -> None:
        source = (
            "import sys; sys.modules['graflow'] = None\n"
            "from graflow_sidecar.graflow import zygote\n"
            "zygote(int(sys.argv.pop(1)))"
        )
        zygote = Zygote([sys.executable, "-c", source])
        self.addCleanup(zygote.close)
        self.assertEqual(zygote.word["problem"], "")
        worker = self.forked(zygote)
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
