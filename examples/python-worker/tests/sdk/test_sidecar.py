"""Sidecar(), with a program that behaves as the real one does."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import unittest

from graflow_sidecar import Sidecar, SidecarError
from tests.support import PATIENCE, ROOT, WorkerCase, until

FAKE = """
    import json, os, signal, sys, threading, time
    folder = os.path.dirname(os.path.abspath(__file__))
    behaviour = os.environ.get("FAKE", "")
    def early(**members):
        os.write(int(sys.argv[sys.argv.index("--ready-fd") + 1]), (json.dumps(members) + "\\n").encode())
    if behaviour == "refuse":
        sys.exit(78)
    if behaviour == "explain":
        early(warning="redis is away")
        early(error="REDIS_PORT is \\"x\\"")
        sys.exit(78)
    if behaviour in ("warn", "warn and wait"):
        early(warning="redis is away: a")
        early(warning="redis is away: connection refused")
    def stop(*_):
        if behaviour != "stubborn":
            open(f"{folder}/stopped", "w").close()
            os._exit({"crash": 70, "lost": 69}.get(behaviour, 0))
    signal.signal(signal.SIGTERM, stop)
    def descriptor(flag):
        return int(sys.argv[sys.argv.index(flag) + 1])
    def watch():
        os.read(descriptor("--parent-fd"), 1)
        open(f"{folder}/orphaned", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, daemon=True).start()
    with open(f"{folder}/starting", "w") as file:
        json.dump({"argv": sys.argv[1:], "env": dict(os.environ)}, file)
    os.rename(f"{folder}/starting", f"{folder}/started")
    if behaviour not in ("silent", "warn and wait"):
        with open(descriptor("--ready-fd"), "w") as ready:
            json.dump({"redis_url": "redis://127.0.0.1:7/0", "pid": os.getpid()}, ready)
            ready.write("\\n")
    while True:
        time.sleep(60)
"""


class ContextManager(WorkerCase):
    def setUp(self):
        self.home = self.folder()
        self.binary = self.home / "sidecar"
        self.binary.write_text(f"#!{sys.executable}\n" + textwrap.dedent(FAKE))
        self.binary.chmod(self.binary.stat().st_mode | stat.S_IXUSR)

    def sidecar(self, behaviour="", **options):
        return Sidecar(binary=str(self.binary), env={"FAKE": behaviour}, **options)

    def started(self):
        return json.loads((self.home / "started").read_text())

    def worker_of(self, started):
        run, ready_flag, _, parent_flag, _, *worker = started["argv"]
        self.assertEqual([run, ready_flag, parent_flag], ["run", "--ready-fd", "--parent-fd"])
        return worker

    def stopped(self):
        return (self.home / "stopped").exists()

    def test_starts_and_stops(self):
        os.environ.update(REDIS_HOST="elsewhere", SIDECAR_BIN="/none")
        self.addCleanup(os.environ.pop, "REDIS_HOST")
        self.addCleanup(os.environ.pop, "SIDECAR_BIN")
        with self.sidecar(workers=2, key_prefix="p") as sidecar:
            self.assertEqual(sidecar.redis_url, "redis://127.0.0.1:7/0")
            started = self.started()
            self.assertFalse(self.stopped())
        self.assertTrue(self.stopped())
        self.assertIsNone(sidecar.process)
        self.assertEqual(self.worker_of(started), ["--graflow"])
        env = started["env"]
        self.assertEqual(
            [
                env.get(name)
                for name in (
                    "REDIS_URL",
                    "MAX_CONCURRENT_TASKS",
                    "REDIS_KEY_PREFIX",
                    "SIDECAR_PYTHON",
                )
            ],
            ["embedded", "2", "p", sys.executable],
        )
        self.assertNotIn("SIDECAR_BIN", env)
        self.assertNotIn("REDIS_HOST", env)

    def test_says_why_it_is_not_ready(self):
        for behaviour, patience, wanted in (
            ("explain", 60, 'ended with status 78 before it was ready: REDIS_PORT is "x"'),
            ("warn and wait", 5, "not ready within 5 s: redis is away: connection refused"),
            ("refuse", 60, "ended with status 78 before it was ready$"),
        ):
            with self.subTest(behaviour):
                with self.assertRaisesRegex(SidecarError, wanted):
                    self.sidecar(behaviour, start_timeout=patience).start()

    def test_warnings_do_not_keep_it_from_being_ready(self):
        with self.sidecar("warn") as sidecar:
            self.assertEqual(sidecar.redis_url, "redis://127.0.0.1:7/0")

    def test_a_redis_that_is_there_and_another_worker(self):
        with self.sidecar(redis="redis://h:1/2", command=["./worker", "-x"]) as sidecar:
            self.assertEqual(sidecar.redis_url, "redis://h:1/2")
            started = self.started()
        self.assertEqual(self.worker_of(started), ["--", "./worker", "-x"])
        self.assertNotIn("REDIS_PORT", started["env"])

    def test_the_bodys_exception_goes_on_after_the_stop(self):
        for behaviour in ("", "crash"):
            with self.subTest(behaviour):
                with self.assertRaisesRegex(ValueError, "from the body"):
                    with self.sidecar(behaviour):
                        raise ValueError("from the body")
                self.assertTrue(self.stopped())

    def test_the_bodys_exception_does_not_wait_for_a_reader_of_stderr(self):
        # "crash" ends with 70, which is said on stderr: the body's exception goes first.
        script = self.script(
            """
            import sys
            from graflow_sidecar import Sidecar
            try:
                with Sidecar(binary=sys.argv[1], env={"FAKE": "crash"}):
                    raise ValueError("from the body")
            except ValueError as problem:
                print(problem, flush=True)
            """
        )
        for name in ("stalled", "gone"):
            with self.subTest(name):
                reader, writer = os.pipe()
                if name == "gone":
                    os.close(reader)
                else:
                    self.addCleanup(os.close, reader)
                    os.set_blocking(writer, False)
                    for size in (4096, 1):
                        with self.assertRaises(BlockingIOError):
                            while True:
                                os.write(writer, b"x" * size)
                    os.set_blocking(writer, True)
                try:
                    done = subprocess.run(
                        [sys.executable, script, str(self.binary)],
                        env={**os.environ, "PYTHONPATH": str(ROOT)},
                        stdout=subprocess.PIPE,
                        stderr=writer,
                        timeout=PATIENCE,
                    )
                finally:
                    os.close(writer)
                self.assertEqual(done.stdout, b"from the body\n")

    def test_a_bad_end_is_an_error(self):
        with self.assertRaisesRegex(SidecarError, "status 70"):
            with self.sidecar("crash"):
                pass

    def test_the_death_of_an_embedded_redis_is_told_as_such(self):
        for redis, words in (("embedded", "the embedded Redis"), ("redis://h:1/2", "the sidecar")):
            with self.subTest(redis):
                with self.assertRaisesRegex(SidecarError, f"^{words} (has )?ended.*status 69"):
                    with self.sidecar("lost", redis=redis) as sidecar:
                        sidecar.process.terminate()
                        self.assertTrue(sidecar.wait(PATIENCE))

    def test_one_that_does_not_stop_is_killed(self):
        # The room after the stop's own time is 5 s.
        for options, timeout in (({"stop_timeout": -4.9}, None), ({}, 0.1)):
            with self.subTest(timeout):
                sidecar = self.sidecar("stubborn", **options)
                sidecar.start()
                process = sidecar.process
                with self.assertRaisesRegex(SidecarError, "did not stop"):
                    sidecar.stop(timeout)
                self.assertEqual(process.poll(), -signal.SIGKILL)

    def test_waiting_with_a_timeout(self):
        sidecar = self.sidecar()
        self.assertTrue(sidecar.wait(0), "one that does not run has ended")
        with sidecar:
            self.assertFalse(sidecar.wait(0.05))
            threading.Timer(0.05, sidecar.process.terminate).start()
            self.assertTrue(sidecar.wait(PATIENCE))
        self.assertTrue(self.stopped())

    def test_one_that_does_not_start(self):
        with self.assertRaisesRegex(SidecarError, "ended with status 78"):
            with self.sidecar("refuse"):
                self.fail("the body ran")

    def test_one_that_is_never_ready(self):
        sidecar = self.sidecar("silent", start_timeout=0.2)
        with self.assertRaisesRegex(SidecarError, "not ready within"):
            sidecar.start()
        self.assertIsNone(sidecar.process)

    def test_no_descriptor_is_left(self):
        before = os.listdir("/proc/self/fd")
        for behaviour in ("", "crash", "refuse", "silent"):
            try:
                with self.sidecar(behaviour, start_timeout=0.2):
                    pass
            except SidecarError:
                pass
        gone = self.sidecar()
        self.binary.unlink()
        with self.assertRaises(FileNotFoundError):
            gone.start()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    def test_no_program(self):
        with self.assertRaisesRegex(SidecarError, "SIDECAR_BIN"):
            Sidecar(binary="/no/such/program")

    def test_a_program_that_was_installed_with_the_package(self):
        # A copy of the package, as a wheel for a platform has it.
        home = self.folder()
        shutil.copytree(ROOT / "graflow_sidecar", home / "graflow_sidecar")
        bundled = home / "graflow_sidecar/bin/sidecar"
        bundled.parent.mkdir()
        bundled.write_text(
            "#!/bin/sh\n"
            'echo "bundled $*, Python $SIDECAR_PYTHON, SIDECAR_BIN ${SIDECAR_BIN-unset}"\n'
            # Bit 12 of these is SIGPIPE, which Python ignores.
            "ignored=$(sed -n 's/^SigIgn:\\t//p' /proc/self/status 2>/dev/null || echo 0)\n"
            '[ $(( 0x${ignored:-0} >> 12 & 1 )) = 0 ] || echo SIGPIPE is ignored\n'
            "exit 7\n"
        )
        bundled.chmod(0o755)
        other = home / "other"
        other.write_text('#!/bin/sh\necho "other $*"\n')
        other.chmod(0o755)
        (home / "sidecar").write_text("#!/bin/sh\necho on PATH\n")
        (home / "sidecar").chmod(0o755)

        def command(verb="run", **env):
            done = subprocess.run(
                [sys.executable, "-m", "graflow_sidecar", verb, "a b"],
                cwd=home,
                env={"PYTHONPATH": str(home), "PATH": f"{home}:{os.environ['PATH']}", **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
            )
            return done.returncode, done.stdout

        says = "bundled run a b, Python {}, SIDECAR_BIN unset\n"
        self.assertEqual(command(), (7, says.format(sys.executable)))
        self.assertEqual(command(SIDECAR_PYTHON="/mine"), (7, says.format("/mine")))
        # A path of this machine would be in a manifest for others.
        self.assertEqual(
            command("manifest"), (7, "bundled manifest a b, Python , SIDECAR_BIN unset\n")
        )
        self.assertEqual(command(SIDECAR_BIN=str(other)), (0, "other run a b\n"))
        status, text = command(SIDECAR_BIN="/no/such/program")
        self.assertEqual((status, text.count("\n")), (78, 1))
        self.assertIn("SIDECAR_BIN", text)
        bundled.write_bytes(b"no program")
        status, text = command()
        self.assertEqual((status, text.count("\n")), (78, 1))
        self.assertIn("cannot be started: Exec format error", text)
        shutil.rmtree(bundled.parent)
        self.assertEqual(command(), (0, "on PATH\n"))
        (home / "sidecar").unlink()
        status, text = command(PATH="/none")
        self.assertEqual((status, text.count("\n")), (78, 1))
        self.assertIn("installed without its program", text)

    def test_a_killed_script_takes_its_sidecar_along(self):
        # A process that the script forked lives on, and does not count.
        script = self.script(
            f"""
            from graflow_sidecar import Sidecar
            import os, time
            with Sidecar(binary={str(self.binary)!r}) as sidecar:
                child = os.fork()
                if child == 0:
                    os.close(1)
                    time.sleep(60)
                print(child, flush=True)
                time.sleep(60)
            """
        )
        body = subprocess.Popen(
            [sys.executable, script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        self.addCleanup(body.stdout.close)
        forked = int(body.stdout.readline())
        self.addCleanup(os.kill, forked, signal.SIGKILL)
        body.kill()
        body.wait(PATIENCE)
        until((self.home / "orphaned").exists, "the sidecar to notice")

    def test_ctrl_c_reaches_the_body_alone(self):
        script = self.script(
            f"""
            from graflow_sidecar import Sidecar
            import signal, time
            # Tests that a shell runs in the background start with SIGINT ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                with Sidecar(binary={str(self.binary)!r}):
                    print("up", flush=True)
                    time.sleep(60)
            except KeyboardInterrupt:
                print("interrupted")
            """
        )
        body = subprocess.Popen(
            [sys.executable, script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.addCleanup(body.stdout.close)
        self.assertEqual(body.stdout.readline(), b"up\n")
        os.killpg(body.pid, signal.SIGINT)
        self.assertEqual(body.stdout.read(), b"interrupted\n")
        self.assertEqual(body.wait(PATIENCE), 0)
        self.assertTrue(self.stopped())


if __name__ == "__main__":
    unittest.main()
