"""What a Graflow task finds in the adapter, and what it leaves behind."""

import unittest

from tests.engine.support import EngineCase


class Tasks(EngineCase):
    def test_a_result_is_left_in_the_channel(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def answer():
                    return {"n": 42, "text": "\\u00e4"}
                flow.graph.add_node(answer, skip_if_exists=True)
            push(context_of(flow), "answer")
            """
        )
        self.succeed(self.adapter(), record)
        self.assertEqual(self.channel("answer.__result__"), {"n": 42, "text": "ä"})

    def test_tasks_in_a_module(self):
        self.module(
            "mytasks",
            """
            def helper(n):
                return n * 2

            @task
            def doubled():
                return helper(21)
            """,
        )
        (record,) = self.records(
            """
            import mytasks
            with workflow("w") as flow:
                flow.graph.add_node(mytasks.doubled)
            push(context_of(flow), "doubled")
            """
        )
        self.succeed(self.adapter(), record)
        self.assertEqual(self.channel("doubled.__result__"), 42)

    def test_arguments_from_results_and_from_the_channel(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def combine(first, plain, bound, missing="default"):
                    return [first, plain, bound, missing]
                call = combine(task_id="call", bound="given")
            context = context_of(flow)
            context.set_result("first", [1, 2])
            context.channel.set("plain", {"a": None})
            push(context, "call")
            """
        )
        self.succeed(self.adapter(), record)
        self.assertEqual(self.channel("call.__result__"), [[1, 2], {"a": None}, "given", "default"])

    def test_channel_operations_and_a_lock(self):
        records = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def use(ctx):
                    channel = ctx.get_channel()
                    channel.set("set", {"x": [1.5, None]})
                    channel.append("list", "b")
                    channel.prepend("list", "a")
                    with channel.lock("count"):
                        total = channel.atomic_add("count", 2)
                    return [channel.get("set"), channel.get("no", "default"), total,
                            channel.exists("set"), channel.delete("set"), sorted(channel.keys())]
                flow.graph.add_node(use, skip_if_exists=True)
            context = context_of(flow)
            push(context, "use", "use")
            """
        )
        worker = self.adapter()
        for count, record in enumerate(records, 1):
            self.succeed(worker, record)
            got = self.channel("use.__result__")
            keys = got.pop()
            self.assertEqual(got, [{"x": [1.5, None]}, "default", 2 * count, True, True])
            self.assertIn("list", keys)
        items = self.client.lrange(f"graflow:channel:{self.session}:list", 0, -1)
        self.assertEqual(items, ['"a"', '"a"', '"b"', '"b"'])

    def test_six_megabytes_each_way(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def big(data):
                    return data[::-1]
                flow.graph.add_node(big, skip_if_exists=True)
            context = context_of(flow)
            context.set_result("data", "ab\\u00e9" * 2_000_000)
            push(context, "big")
            """
        )
        self.succeed(self.adapter(), record)
        self.assertEqual(self.channel("big.__result__"), "éba" * 2_000_000)

    def test_streams(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def noisy():
                    print("to the log")
                    os.write(1, b"x" * 200_000)
                    return [sys.stdin.read(), os.read(0, 1).decode()]
                flow.graph.add_node(noisy, skip_if_exists=True)
            push(context_of(flow), "noisy")
            """
        )
        worker = self.adapter()
        self.succeed(worker, record)
        self.assertEqual(self.channel("noisy.__result__"), ["", ""])
        worker.logged("to the log")
        self.assertEqual(worker.noise, [])

    def test_retries_are_graflows_own(self):
        records = self.records(
            """
            tries = []
            with workflow("w") as flow:
                @task(retry_policy=RetryPolicy(max_retries=2, initial_interval=0.01), inject_context=True)
                def third(ctx):
                    if ctx.get_channel().atomic_add("tries") < 3:
                        raise ValueError("not yet")
                    return "at last"
                @task(max_retries=1)
                def never():
                    raise ValueError("no")
                for node in (third, never):
                    flow.graph.add_node(node, skip_if_exists=True)
            push(context_of(flow), "third", "never")
            """
        )
        worker = self.adapter()
        self.succeed(worker, records[0])
        self.assertEqual(self.channel("third.__result__"), "at last")
        error = worker.run(records[1])["error"]
        self.assertEqual(
            (error["type"], error["message"]),
            (
                "RetryLimitExceededError",
                "RetryLimitExceededError(task_id=never, retry_count=2, max_retries=1)",
            ),
        )

    def test_successors_run_in_the_same_call(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def first():
                    return 1
                @task
                def second(first):
                    return first + 1
                first >> second
            push(context_of(flow), "first")
            """
        )
        self.succeed(self.adapter(), record)
        self.assertEqual(self.channel("second.__result__"), 2)

    def test_processes_that_a_task_forks_end_in_it(self):
        self.module(
            "forking",
            """
            def fork(end):
                pid = os.fork()
                if pid == 0:
                    return end()
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

            def fail():
                raise ValueError("in the child")

            def note(way):
                redis.Redis.from_url(os.environ["REDIS_URL"]).rpush(PREFIX + "ran", way)

            WAYS = {
                "exits": lambda: sys.exit(3), "exits0": lambda: sys.exit(0),
                "leaves": lambda: os._exit(4), "returns": lambda: "of the child", "raises": fail,
            }
            """,
        )
        records = self.records(
            """
            import forking
            def run(way):
                return forking.fork(forking.WAYS[way])
            with workflow("w") as flow:
                for way in forking.WAYS:
                    node = task(way)(lambda way=way: run(way))
                    node >> task(f"after_{way}")(lambda way=way: forking.note(way))
                members = [task(f"m_{way}")(lambda way=way: run(way)) for way in forking.WAYS]
                group = ParallelGroup(members, name="members")
                group.with_execution(backend=THREADS)
                group >> task("after_members")(lambda: forking.note("members"))
            push(context_of(flow), *forking.WAYS, "members")
            """
        )
        worker = self.adapter()
        for record in records:
            with self.subTest(record["task_id"]):
                self.succeed(worker, record)
        want = {"exits": 3, "exits0": 0, "leaves": 4, "returns": 0, "raises": 1}
        self.assertEqual({way: self.channel(f"{way}.__result__") for way in want}, want)
        self.assertEqual({way: self.channel(f"m_{way}.__result__") for way in want}, want)
        ran = self.client.lrange(f"{self.prefix}ran", 0, -1)
        self.assertEqual(sorted(ran), sorted([*want, "members"]))
        self.assertEqual(worker.log().count("Traceback"), 2, worker.log())
        self.assertEqual((worker.other, worker.noise), ([], []))

    def test_human_feedback(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def ask(ctx):
                    return ctx.request_approval("Deploy?", timeout=30)
                flow.graph.add_node(ask, skip_if_exists=True)
            push(context_of(flow), "ask")
            """
        )
        worker = self.adapter()
        running = worker.begin(record)
        self.producer(
            """
            from graflow.hitl.manager import FeedbackManager
            from graflow.hitl.types import FeedbackResponse, FeedbackType
            manager = FeedbackManager(backend="redis", backend_config={"redis_client": text})
            while not (found := manager.list_pending_requests()):
                text.blpop("nothing", timeout=0.05)
            given = FeedbackResponse(feedback_id=found[0].feedback_id,
                                     response_type=FeedbackType.APPROVAL, approved=True)
            manager.provide_feedback(found[0].feedback_id, given)
            """
        ).wait(30)
        self.assertEqual(worker.answer(running)["result"], {"status": "succeeded"})
        self.assertIs(self.channel("ask.__result__"), True)


if __name__ == "__main__":
    unittest.main()
