"""Redis going away under a task is not the task's failure."""

import unittest

from tests.engine.support import EngineCase, RedisServer
from tests.support import until

# Each body runs once Redis is gone.
BODIES = {
    "plain": "channel.get('x')",
    "wrapped": """
        try:
            channel.get("x")
        except Exception:
            raise ValueError("wrapped") from None
    """,
    "late": "raise ValueError('its own, but nothing can be stored')",
}


class Outages(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        # These tests stop it, so each has its own.
        self.server = RedisServer()
        self.addCleanup(self.server.close)
        self.client = self.server.ready()
        self.addCleanup(self.client.close)
        self.url = f"redis://127.0.0.1:{self.server.port}/0"

    def flow(self, body: str, options: str = "") -> dict:
        import textwrap

        body = textwrap.indent(textwrap.dedent(body).strip(), " " * 4)
        source = f"""
def work(ctx):
    channel = ctx.get_channel()
    open("started", "w").close()
    while not os.path.exists("gone"):
        pass
{body}

with workflow("w") as flow:
    flow.graph.add_node(task(work, inject_context=True{options}), skip_if_exists=True)
push(context_of(flow), "work")
"""
        (record,) = self.records(source)
        return record

    def lose(self, record: dict, back: bool = False, **env: str) -> dict:
        worker = self.adapter(**{"REDIS_RETRIES": "0", **env})
        running = worker.begin(record)
        until((self.here / "started").exists, "the task's start")
        self.server.stop()
        (self.here / "gone").touch()
        if back:
            worker.logged("cannot")
            self.server.start()
        return worker.answer(running)["result"]

    def test_is_retryable_however_it_surfaces(self):
        for name, body in BODIES.items():
            with self.subTest(name):
                self.setUp()
                error = self.lose(self.flow(body))["error"]
                self.assertEqual(
                    (error["type"], error["retryable"]), ("RedisUnavailable", True), error
                )
                self.assertNotIn("stack", error)

    def test_after_graflows_own_retries_too(self):
        error = self.lose(self.flow("channel.get('x')", ", max_retries=1"))["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)

    def test_a_short_one_is_not_even_noticed(self):
        body = "print('cannot', flush=True); channel.set('done', 1)"
        record = self.flow(body)
        result = self.lose(record, back=True, REDIS_RETRIES="5")
        self.assertEqual(result, {"status": "succeeded"})
        self.assertEqual(self.channel("done"), 1)

    def test_before_the_graph_is_loaded(self):
        record = self.flow("pass")
        worker = self.adapter(REDIS_RETRIES="0")
        self.server.stop()
        error = worker.run(record)["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)

    def test_in_a_group_of_threads(self):
        (record,) = self.records(
            """
def member(ctx):
    open("started", "w").close()
    while not os.path.exists("gone"):
        pass
    ctx.get_channel().get("x")

with workflow("w") as flow:
    members = [task(member, id=name, inject_context=True) for name in "ab"]
    ParallelGroup(members, name="group").with_execution(backend=THREADS)
push(context_of(flow), "group")
            """
        )
        error = self.lose(record)["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)

    def test_while_a_nested_group_waits(self):
        (record,) = self.records(
            """
with workflow("w") as flow:
    members = [task(lambda: None, id=name) for name in "ab"]
    ParallelGroup(members, name="group").with_execution(backend=REDIS)
push(context_of(flow), "group")
            """
        )
        worker = self.adapter(REDIS_RETRIES="0")
        running = worker.begin(record)
        worker.notification("$/waiting")
        until(lambda: self.client.pubsub_channels(), "the subscription")
        self.server.stop()
        error = worker.answer(running)["result"]["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)
        worker.notification("$/resumed")

    def test_another_redis_of_the_tasks_own_is_its_own_affair(self):
        body = "import redis; redis.Redis(port=1, retry=None).ping()"
        (self.here / "gone").touch()
        error = self.adapter().run(self.flow(body))["error"]
        self.assertEqual((error["type"], error["retryable"]), ("ConnectionError", False), error)

    def test_a_missing_permission_is_no_outage(self):
        (self.here / "gone").touch()
        record = self.flow("channel.get('x')")
        self.client.execute_command("ACL", "SETUSER", "default", "-get")
        error = self.adapter(REDIS_RETRIES="0").run(record)["error"]
        self.assertFalse(error["retryable"], error)
        self.assertIn("permission", error["message"])

    def test_a_password_that_is_changed_is_one(self):
        # The worker knows the old password alone: its task goes back, as a task
        # that was handed to it in that moment has not failed.
        record = self.flow("pass")
        self.client.config_set("requirepass", "other")
        error = self.adapter(REDIS_RETRIES="0").run(record)["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)

    def test_a_wrong_password_of_the_tasks_own_is_none(self):
        (self.here / "gone").touch()
        record = self.flow(
            f"""
            from graflow.utils.redis_utils import create_redis_client
            login = {{"host": "127.0.0.1", "port": {self.server.port}, "password": "wrong"}}
            create_redis_client({{**login, "username": "w"}}).ping()
            """
        )
        self.client.execute_command("ACL", "SETUSER", "w", "on", ">one", "~*", "&*", "+@all")
        error = self.adapter(REDIS_RETRIES="0").run(record)["error"]
        self.assertEqual((error["type"], error["retryable"]), ("AuthenticationError", False), error)

    def test_a_password_file_is_read_for_each_connection(self):
        file = self.here / "password"
        file.write_text("one\n")
        admin = self.client
        admin.execute_command("ACL", "SETUSER", "w", "on", ">one", "~*", "&*", "+@all")
        worker = self.adapter(
            REDIS_URL=self.url.replace("//", "//w:one@"),
            REDIS_USERNAME="w",
            REDIS_PASSWORD="one",
            REDIS_PASSWORD_FILE=str(file),
        )
        (self.here / "gone").touch()
        # The nested coordinator's own client, by the first password.
        body = f"""
            from graflow.utils.redis_utils import create_redis_client
            login = {{"host": "127.0.0.1", "port": {self.server.port}, "db": 0, "password": "one"}}
            create_redis_client({{**login, "username": "w", "db": 5}}).ping()
            channel.set("done", NUMBER)
        """

        def works(number: int) -> None:
            record = self.flow(body.replace("NUMBER", str(number)))
            self.assertEqual(worker.run(record), {"status": "succeeded"})
            self.assertEqual(self.channel("done"), number)

        def cut() -> None:
            for client in admin.client_list():
                if client["user"] == "w":
                    admin.client_kill_filter(_id=client["id"])

        works(1)
        for number, (old, new) in enumerate((("one", "two"), ("two", "three")), 2):
            admin.execute_command("ACL", "SETUSER", "w", f">{new}")
            file.write_text(f"{new}\n")
            admin.execute_command("ACL", "SETUSER", "w", f"<{old}")
            cut()
            works(number)
        # While it is replaced the last password that is known serves.
        file.write_text("")
        cut()
        works(4)
        file.unlink()
        cut()
        works(5)

    def test_a_replica_is_one(self):
        (self.here / "gone").touch()
        record = self.flow("channel.set('x', 1)")
        self.client.replicaof("127.0.0.1", "1")
        self.client.config_set("replica-serve-stale-data", "yes")
        error = self.adapter(REDIS_RETRIES="0").run(record)["error"]
        self.assertEqual((error["type"], error["retryable"]), ("RedisUnavailable", True), error)

    def test_a_value_that_redis_never_takes_is_no_outage(self):
        for size in (2_000_000, 40_000_000):
            with self.subTest(size):
                self.client.config_set("proto-max-bulk-len", "1mb")
                (self.here / "gone").touch()
                record = self.flow(f"channel.set('k', 'x' * {size})")
                error = self.adapter(REDIS_RETRIES="1").run(record)["error"]
                self.assertFalse(error["retryable"], error)
                self.assertIn("invalid bulk length", error["message"])


if __name__ == "__main__":
    unittest.main()
