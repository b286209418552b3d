"""TLS, logins and pools reach every place where Graflow connects."""

import shutil
import subprocess
import time
import unittest

import redis

from tests.engine.support import EngineCase, RedisServer, Sidecar, free_port
from tests.support import until


class TLS(EngineCase):
    """A server that wants TLS, a client certificate, a name and a login."""

    def setUp(self) -> None:
        super().setUp()
        self.certificates()
        folder = self.here
        self.tls_port = free_port()
        self.server = RedisServer(
            "--tls-port",
            str(self.tls_port),
            "--tls-cert-file",
            f"{folder}/server.pem",
            "--tls-key-file",
            f"{folder}/server.key",
            "--tls-ca-cert-file",
            f"{folder}/ca.pem",
            "--user",
            "worker",
            "on",
            ">secret",
            "~*",
            "&*",
            "+@all",
        )
        self.addCleanup(self.server.close)
        self.server.ready().close()
        self.client = self.server.ready(username="worker", password="secret")
        self.addCleanup(self.client.close)
        # The producer comes in without TLS, on the other port.
        self.url = f"redis://127.0.0.1:{self.server.port}/0"

    def certificates(self) -> None:
        program = shutil.which("openssl")
        if program is None:
            self.fail("this test needs openssl on PATH: apt-get install openssl")
        for arguments in (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca"
            " -keyout ca.key -out ca.pem",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis"
            " -keyout server.key -out server.csr -addext subjectAltName=DNS:redis.internal",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
            " -copy_extensions copy -out server.pem",
        ):
            subprocess.run(
                [program, *arguments.split()], cwd=self.here, check=True, capture_output=True
            )

    def tls(self) -> dict:
        return {
            "REDIS_URL": f"rediss://worker:secret@127.0.0.1:{self.tls_port}/0",
            "REDIS_TLS_CA_FILE": str(self.here / "ca.pem"),
            "REDIS_TLS_CERT_FILE": str(self.here / "server.pem"),
            "REDIS_TLS_KEY_FILE": str(self.here / "server.key"),
            "REDIS_TLS_SERVER_NAME": "redis.internal",
        }

    def test_everything_goes_through_it(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def first(ctx):
                    ctx.get_channel().set("base", 10)
                @task(inject_context=True)
                def in_thread(ctx, base):
                    ctx.get_channel().set("from_thread", base + 1)
                    return base
                @task
                def other():
                    return 1
                @task
                def far(base):
                    return base + 2
                @task
                def near(base):
                    return base + 3
                @task(inject_context=True)
                def ask(ctx):
                    from graflow.hitl.types import FeedbackTimeoutError
                    try:
                        ctx.request_approval("?", timeout=0.1)
                    except FeedbackTimeoutError:
                        return "nobody answered"
                threads = (in_thread | other).set_group_name("threads").with_execution(backend=THREADS)
                remote = (far | near).set_group_name("remote").with_execution(
                    backend=REDIS, backend_config={"key_prefix": PREFIX})
                first >> threads >> remote >> ask
            push(context_of(flow), "first")
            """
        )
        # From here on nothing gets in without the login.
        self.client.acl_setuser("default", enabled=False)
        outer, inner = self.adapter(**self.tls()), self.adapter(**self.tls())
        sidecar = Sidecar(self, [inner])
        result = outer.run(record)
        ports = {c["laddr"].rpartition(":")[2] for c in self.client.client_list()}
        sidecar.stop()
        self.assertEqual(result, {"status": "succeeded"}, sidecar.errors)
        self.assertEqual(self.channel("from_thread"), 11)
        self.assertEqual(self.channel("near.__result__"), 13)
        self.assertEqual(self.channel("ask.__result__"), "nobody answered")
        self.assertIn(str(self.tls_port), ports)

    def test_a_wrong_name_is_refused(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                flow.graph.add_node(task(lambda: None, id="x"), skip_if_exists=True)
            push(context_of(flow), "x")
            """
        )
        other = {**self.tls(), "REDIS_TLS_SERVER_NAME": "", "REDIS_RETRIES": "0"}
        error = self.adapter(**other).run(record)["error"]
        self.assertIn("certificate verify failed", error["message"])
        self.succeed(self.adapter(**other, REDIS_TLS_INSECURE="true"), record)


class TestConnectionPooling(EngineCase):
    """The fifth point of the analysis, for the clients of a Graflow worker."""

    def pools(self, **env):
        from graflow_sidecar._clients import Clients
        from graflow_sidecar._settings import Settings

        pair = Clients(Settings.from_env({"REDIS_URL": self.url, **env})).main
        return [client.connection_pool for client in (pair.text, pair.binary)]

    def test_defaults(self):
        for pool in self.pools():
            with self.subTest(pool):
                self.assertEqual(pool.max_connections, 10)
                options = pool.connection_kwargs
                self.assertEqual(options["health_check_interval"], 30)
                self.assertEqual(options["socket_timeout"], 5)
                self.assertEqual(options["socket_connect_timeout"], 5)
                self.assertEqual(options["retry"]._retries, 5)
                for error in (redis.ConnectionError, redis.TimeoutError):
                    self.assertTrue(issubclass(error, options["retry"]._supported_errors))

    def test_settings(self):
        pools = self.pools(
            REDIS_MAX_CONNECTIONS="3",
            REDIS_HEALTH_CHECK_INTERVAL="7.5",
            REDIS_SOCKET_TIMEOUT="1",
            REDIS_SOCKET_CONNECT_TIMEOUT="2",
            REDIS_RETRIES="9",
        )
        for pool in pools:
            options = pool.connection_kwargs
            found = [pool.max_connections, options["retry"]._retries]
            found += [
                options[name]
                for name in ("health_check_interval", "socket_timeout", "socket_connect_timeout")
            ]
            self.assertEqual(found, [3, 9, 7.5, 1, 2])

    def test_an_idle_connection_is_checked_before_it_is_used(self):
        pool, _ = self.pools(REDIS_HEALTH_CHECK_INTERVAL="0.05")
        client = redis.Redis(connection_pool=pool)
        self.addCleanup(client.close)

        def pings() -> int:
            return self.client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)

        client.get("x")
        before = pings()
        client.get("x")
        self.assertEqual(pings(), before, "one that was just used is not checked")
        time.sleep(0.1)
        client.get("x")
        self.assertEqual(pings(), before + 1)

    def test_a_command_is_repeated_on_another_connection(self):
        pool, _ = self.pools()
        client = redis.Redis(connection_pool=pool)
        self.addCleanup(client.close)
        client.set("x", 1)
        self.client.client_kill_filter(_type="normal", skipme=True)
        self.assertEqual(client.get("x"), "1")

    def test_many_threads_share_few_connections(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def crowd(ctx):
                    from concurrent.futures import ThreadPoolExecutor
                    channel = ctx.get_channel()
                    with ThreadPoolExecutor(30) as pool:
                        return sum(pool.map(lambda n: channel.atomic_add("n") > 0, range(300)))
                flow.graph.add_node(crowd, skip_if_exists=True)
            push(context_of(flow), "crowd")
            """
        )
        worker = self.adapter(REDIS_MAX_CONNECTIONS="4")
        before = len(self.client.client_list())
        self.succeed(worker, record)
        self.assertEqual(self.channel("crowd.__result__"), 300)
        # 4 for the channel, 1 for the graph.
        self.assertLessEqual(len(self.client.client_list()) - before, 5)

    def test_tasks_leave_no_connection_behind(self):
        records = self.records(
            """
            with workflow("w") as flow:
                @task
                def left():
                    return 1
                @task
                def right():
                    return 2
                (left | right).set_group_name("g").with_execution(backend=THREADS)
            push(context_of(flow), *["g"] * 20)
            """
        )
        worker = self.adapter()
        self.succeed(worker, records[0])
        before = len(self.client.client_list())
        for record in records[1:]:
            self.succeed(worker, record)
        self.assertLessEqual(len(self.client.client_list()), before + 2)

    def test_a_connection_that_redis_has_closed_is_replaced(self):
        records = self.records(
            """
            with workflow("w") as flow:
                flow.graph.add_node(task(lambda: 1, id="x"), skip_if_exists=True)
            push(context_of(flow), "x", "x")
            """
        )
        worker = self.adapter()
        self.succeed(worker, records[0])
        self.client.client_kill_filter(_type="normal", skipme=True)
        self.succeed(worker, records[1])

    def test_another_server_named_by_the_user_is_used(self):
        other = RedisServer()
        self.addCleanup(other.close)
        theirs = other.ready()
        self.addCleanup(theirs.close)
        (record,) = self.records(
            f"""
            with workflow("w") as flow:
                @task
                def left():
                    return 1
                @task
                def right():
                    return 2
                config = {{"host": "127.0.0.1", "port": {other.port}, "key_prefix": "theirs",
                          "decode_responses": False}}
                (left | right).set_group_name("g").with_execution(backend=REDIS, backend_config=config)
            push(context_of(flow), "g")
            """
        )
        worker = self.adapter()
        running = worker.begin(record)
        until(lambda: theirs.llen("theirs:queue") == 2, "the members on the other server")
        worker.notify("$/cancelRequest", {"id": running})
        self.assertEqual(worker.answer(running)["error"]["code"], -32800)


class Socket(EngineCase):
    def test_a_unix_socket(self):
        path = self.here / "redis.sock"
        self.server = RedisServer("--unixsocket", str(path))
        self.addCleanup(self.server.close)
        self.client = self.server.ready()
        self.addCleanup(self.client.close)
        self.url = f"redis://127.0.0.1:{self.server.port}/0"
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def left():
                    return 1
                @task
                def right():
                    return 2
                @task
                def far():
                    return 3
                @task
                def near():
                    return 4
                threads = (left | right).set_group_name("threads").with_execution(backend=THREADS)
                threads >> (far | near).set_group_name("remote").with_execution(backend=REDIS)
            push(context_of(flow), "threads")
            """
        )
        url = f"unix://{path}?db=0"
        outer, inner = self.adapter(REDIS_URL=url), self.adapter(REDIS_URL=url)
        sidecar = Sidecar(self, [inner])
        result = outer.run(record)
        sidecar.stop()
        self.assertEqual(result, {"status": "succeeded"}, sidecar.errors)
        self.assertEqual(self.channel("right.__result__"), 2)
        self.assertEqual(self.channel("near.__result__"), 4)


class Database(EngineCase):
    def test_another_database_of_the_same_server(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def left():
                    return 1
                @task
                def right():
                    return 2
                (left | right).set_group_name("g").with_execution(
                    backend=REDIS, backend_config={"db": 5})
            push(context_of(flow), "g")
            """
        )
        five = self.server.ready(db=5)
        self.addCleanup(five.close)
        worker = self.adapter()
        running = worker.begin(record)
        until(lambda: five.llen(f"{self.prefix}:queue") == 2, "the members in database 5")
        worker.notify("$/cancelRequest", {"id": running})
        self.assertEqual(worker.answer(running)["error"]["code"], -32800)


if __name__ == "__main__":
    unittest.main()
