"""What the incidents are played with: a Redis, a sidecar, and a page that keeps
what was shown, with everything that differs from run to run taken out."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PATIENCE = 30


def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(what, ok):
    """Waits for ok, and returns what it says."""
    end = time.monotonic() + PATIENCE
    while True:
        found = ok()
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"incident: waited in vain for {what}")
        time.sleep(0.02)


class Redis:
    def __init__(self, scratch, page):
        self.page, self.port, self.dir = page, port(), os.path.join(scratch, "redis")
        os.mkdir(self.dir)
        self.name = shutil.which("redis-server") or shutil.which("valkey-server")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.name, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir,
             "--appendonly", "yes", "--save", "", "--logfile", "redis.log"],
        )
        wait("Redis", self.answers)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cli(self, *args):
        """Sends one command, as redis-cli prints its answer."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *args], text=True, capture_output=True, check=True, timeout=PATIENCE,
        )
        return done.stdout

    def show(self, *args):
        self.page.command("redis-cli " + " ".join(args), self.cli(*args))


class Sidecar:
    """The real binary around worker.py, and the commands that ask about it."""
    def __init__(self, binary, scratch, redis, page):
        self.binary, self.page, self.redis = binary, page, redis
        self.http = port()
        self.log_path = os.path.join(scratch, "log")
        self.env = dict(
            os.environ, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", NO_COLOR="1", COLUMNS="100", TZ="UTC",
        )
        run = dict(
            self.env, INCIDENT=scratch, WORKER_ID="previews-1", MAX_CONCURRENT_TASKS="2",
            SIDECAR_LOG_FORMAT="json", SIDECAR_HTTP_ADDR=f"127.0.0.1:{self.http}",
            SIDECAR_RESTART_BACKOFF_MIN="20ms", SIDECAR_RESTART_BACKOFF_MAX="500ms",
        )
        here = os.path.dirname(os.path.abspath(__file__))
        self.log = open(self.log_path, "w+")
        self.process = subprocess.Popen(
            [binary, "run", "--", sys.executable, os.path.join(here, "worker.py")], env=run, stderr=self.log,
        )
        self.read = 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        if status != 0:
            raise SystemExit(f"incident: the sidecar ended with status {status}")

    def mark(self):
        """What the log has until now is not looked at any more."""
        self.read = os.path.getsize(self.log_path)

    def text(self):
        with open(self.log_path, encoding="utf-8") as f:
            f.seek(self.read)
            return [line for line in f if line.endswith("\n")]

    def logged(self, *messages, show=True):
        """Shows the first line with each of these messages, once they are there."""
        def found():
            got = [json.loads(line) for line in self.text() if line.startswith("{")]
            first = [next((x for x in got if x["msg"] == m), None) for m in messages]
            return first if all(first) else None

        shown = wait("the log: " + ", ".join(messages), found)
        self.mark()
        if show:
            self.page.block("\n".join(map(plain, shown)))

    def run(self, *args, quiet=False, status=0):
        """Runs one of the sidecar's commands, and shows it as it would be typed."""
        done = subprocess.run(
            [self.binary, *args], env=self.env, text=True, capture_output=True, timeout=PATIENCE,
        )
        if done.returncode != status:
            raise SystemExit(f"incident: sidecar {' '.join(args)}: status {done.returncode}\n{done.stderr}{done.stdout}")
        if not quiet:
            self.page.command("sidecar " + " ".join(args), done.stdout + done.stderr)
        return done.stdout

    def status(self, state, problem=""):
        """Shows the fleet, once the registry has this sidecar in a state, with a problem
        or none, and idle. What is there is up to 2 s old."""
        def found():
            (run,) = json.loads(self.run("status", "-o", "json", quiet=True))["runs"]
            return run["state"] == state and run.get("problem", "") == problem and run["busy"] == 0

        wait("a sidecar that is " + state, found)
        self.run("status")

    def get(self, path):
        """Asks the sidecar's HTTP server; the status and the body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def ready(self, want):
        """Waits for a status of /readyz and shows it."""
        status, body = wait(f"/readyz with {want}", lambda: (lambda got: got if got[0] == want else None)(self.get("/readyz")))
        self.page.command("curl -s -w '%{http_code}\\n' localhost:8000/readyz", body.rstrip("\n") + f"\n{status}\n")

    def metrics(self, *series, show=True):
        """Shows some metrics, once each has the value that it should have."""
        def found():
            text = self.get("/metrics")[1].splitlines()
            return [s for s in series if s in text] == list(series)

        wait("the metrics " + ", ".join(series), found)
        if show:
            names = "|".join(s.rsplit(" ", 1)[0].replace("{", "\\{").replace("}", "\\}") for s in series)
            self.page.command(f"curl -s localhost:8000/metrics | grep -E '^({names}) '", "\n".join(series))


ATTRIBUTES_LEFT_OUT = {"time", "level", "msg", "pid", "slot", "delivery", "run"}


def plain(line):
    """A line of the log as a person reads it."""
    rest = " ".join(
        f"{k}={json.dumps(v, ensure_ascii=False) if isinstance(v, str) and ' ' in v else v}" for k, v in line.items()
        if k not in ATTRIBUTES_LEFT_OUT
    )
    return f"{line['level']:5} {line['msg']}  {rest}".rstrip()
