"""Tasks that do what tasks should not do to their process's streams."""

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow

with workflow("streams") as wf:

    @task
    def reads_stdin():
        import os
        import sys

        return [sys.stdin.read(), sys.stdin.readline(), os.read(0, 10).decode()]

    @task
    def prints():
        import os
        import sys

        print("a print from the task")
        print("half a line", end="")
        sys.stdout.write("x" * 200_000 + "\n")
        os.write(1, b'{"jsonrpc":"2.0","id":1,"result":{"status":"failed"}}\n')
        sys.__stdout__.write('{"jsonrpc": broken\n')
        os.system("echo from a shell; echo to its stderr >&2; head -c 200000 /dev/zero | tr '\\0' z")
        return "printed"

    @task
    def complains():
        import logging
        import sys
        import traceback

        try:
            raise ValueError("a traceback on purpose")
        except ValueError:
            traceback.print_exc()
        logging.getLogger("e2e").error("a logged error on purpose")
        sys.stderr.write("e" * 200_000)
        sys.stderr.write("\n" + "short line\n" * 5000)
        sys.stderr.buffer.write(b"\xff\xfe not UTF-8 \x00\x1b[31m\n")
        sys.stderr.flush()
        return "complained"

    @task
    def replaces_streams():
        import contextlib
        import io
        import sys

        with contextlib.redirect_stdout(io.StringIO()) as out:
            print("captured")
        sys.stdout = sys.stderr = io.StringIO()
        print("swallowed")
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        return out.getvalue()

    @task
    def starts_a_child():
        import subprocess

        done = subprocess.run(["cat"], stdout=subprocess.PIPE, check=True)  # inherits stdin
        return done.stdout.decode()

    @task
    def uses_processes():
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def first(method):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                return pool.submit(abs, -3).result()

        return [first("fork"), first("spawn")]

    members = [reads_stdin, prints, complains, replaces_streams, starts_a_child, uses_processes]
    redis_group(members, "streams")
    ctx = run(context(wf, "streams"))
    finish(results={member.task_id: ctx.get_result(member.task_id) for member in members})
