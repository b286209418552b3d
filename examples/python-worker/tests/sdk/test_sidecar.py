"""Sidecar(), with a program that behaves as the real one does."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import unittest

from graflow_sidecar import Sidecar, SidecarError
from tests.support import PATIENCE, ROOT, WorkerCase, until

FAKE = """
    import json, os, signal, socket, sys
    folder = os.path.dirname(os.path.abspath(__file__))
    behaviour = os.environ.get("FAKE", "")
    if behaviour == "refuse":
        sys.exit(78)
    def stop(*_):
        if behaviour != "stubborn":
            open(f"{folder}/stopped", "w").close()
            os._exit(70 if behaviour == "crash" else 0)
    signal.signal(signal.SIGTERM, stop)
    with open(f"{folder}/starting", "w") as file:
        json.dump({"argv": sys.argv[1:], "env": dict(os.environ)}, file)
    os.rename(f"{folder}/starting", f"{folder}/started")
    server = socket.create_server(("127.0.0.1", int(os.environ.get("REDIS_PORT", "0"))))
    while True:
        connection, _ = server.accept()
        if connection.recv(100) == b"PING\\r\\n":
            connection.sendall(b"+PONG\\r\\n")
        connection.close()
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

    def stopped(self):
        return (self.home / "stopped").exists()

    def test_starts_and_stops(self):
        os.environ.update(REDIS_HOST="elsewhere", SIDECAR_BIN="/none")
        self.addCleanup(os.environ.pop, "REDIS_HOST")
        self.addCleanup(os.environ.pop, "SIDECAR_BIN")
        with self.sidecar(workers=2, key_prefix="p") as sidecar:
            self.assertRegex(sidecar.redis_url, r"^redis://127\.0\.0\.1:\d+/0$")
            started = self.started()
            self.assertFalse(self.stopped())
        self.assertTrue(self.stopped())
        self.assertIsNone(sidecar.process)
        self.assertEqual(started["argv"], ["run", "--graflow"])
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

    def test_a_redis_that_is_there_and_another_worker(self):
        with self.sidecar(redis="redis://h:1/2", command=["./worker", "-x"]) as sidecar:
            self.assertEqual(sidecar.redis_url, "redis://h:1/2")
            until((self.home / "started").exists, "the start")
            started = self.started()
        self.assertEqual(started["argv"], ["run", "--", "./worker", "-x"])
        self.assertNotIn("REDIS_PORT", started["env"])

    def test_the_bodys_exception_goes_on_after_the_stop(self):
        for behaviour in ("", "crash"):
            with self.subTest(behaviour):
                with self.assertRaisesRegex(ValueError, "from the body"):
                    with self.sidecar(behaviour):
                        raise ValueError("from the body")
                self.assertTrue(self.stopped())

    def test_a_bad_end_is_an_error(self):
        with self.assertRaisesRegex(SidecarError, "status 70"):
            with self.sidecar("crash"):
                pass

    def test_one_that_does_not_stop_is_killed(self):
        # The room after the stop's own time is 5 s.
        sidecar = self.sidecar("stubborn", stop_timeout=-4.9)
        with self.assertRaisesRegex(SidecarError, "did not stop"):
            with sidecar:
                process = sidecar.process
        self.assertEqual(process.poll(), -signal.SIGKILL)

    def test_one_that_does_not_start(self):
        with self.assertRaisesRegex(SidecarError, "ended with status 78"):
            with self.sidecar("refuse"):
                self.fail("the body ran")

    def test_no_program(self):
        with self.assertRaisesRegex(SidecarError, "SIDECAR_BIN"):
            Sidecar(binary="/no/such/program")

    def test_ctrl_c_reaches_the_body_alone(self):
        script = self.script(
            f"""
            from graflow_sidecar import Sidecar
            import time
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
