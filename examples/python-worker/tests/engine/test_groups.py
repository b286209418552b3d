"""Groups inside tasks, with two adapters and the test as their sidecar."""

import unittest

from tests.engine.support import EngineCase, Sidecar


class Groups(EngineCase):
    def test_a_redis_group_inside_a_worker_task(self):
        for name, config in [
            ("settings from the context", '{"key_prefix": PREFIX}'),
            ("a client of the producer", '{"key_prefix": PREFIX, "redis_client": binary}'),
        ]:
            with self.subTest(name):
                (record,) = self.records(
                    f"""
                    with workflow("w") as flow:
                        members = []
                        for n in range(4):
                            def member(n=n):
                                return n * n
                            members.append(task(member, id=f"m{{n}}"))
                        group = ParallelGroup(members, name="inner")
                        group.with_execution(backend=REDIS, backend_config={config})
                        @task
                        def total(m0, m1, m2, m3):
                            return m0 + m1 + m2 + m3
                        group >> total
                    push(context_of(flow), "inner")
                    """
                )
                outer, inner = self.adapter(), self.adapter()
                sidecar = Sidecar(self, [inner])
                running = outer.begin(record, delivery="run.77")
                result = outer.answer(running)["result"]
                sidecar.stop()
                self.assertEqual(result, {"status": "succeeded"}, sidecar.errors)
                self.assertEqual(self.channel("total.__result__"), 14)
                said = [(m["method"], m["params"]) for m in outer.notifications]
                self.assertEqual(
                    said,
                    [("$/waiting", {"delivery": "run.77"}), ("$/resumed", {"delivery": "run.77"})],
                )
                self.assertEqual(self.client.keys(f"{self.prefix}:barrier*"), [])

    def test_a_failing_member_fails_the_group(self):
        (record,) = self.records(
            """
            with workflow("w") as flow:
                @task
                def good():
                    return 1
                @task
                def bad():
                    raise ValueError("member")
                group = (good | bad).set_group_name("inner")
                group.with_execution(backend=REDIS)
            push(context_of(flow), "inner")
            """
        )
        outer, inner = self.adapter(), self.adapter()
        sidecar = Sidecar(self, [inner])
        error = outer.run(record)["error"]
        sidecar.stop()
        self.assertEqual(sidecar.errors, ["An error occurred: member (caused by member)"])
        self.assertEqual(error["type"], "ParallelGroupError")
        self.assertEqual(error["message"], "Parallel group inner failed: 1 task(s) failed")
        self.assertFalse(error["retryable"])

    def test_a_whole_workflow_with_its_producer_outside(self):
        producer = self.producer(
            """
            with workflow("w") as flow:
                members = []
                for n in range(20):
                    def member(offset, n=n):
                        return n + offset
                    members.append(task(member, id=f"m{n}"))
                group = ParallelGroup(members, name="outer")
                group.with_execution(
                    backend=REDIS, backend_config={"redis_client": binary, "key_prefix": PREFIX})
            context = context_of(flow)
            context.channel.set("offset", 100)
            from graflow.core.engine import WorkflowEngine
            WorkflowEngine().execute(context, start_task_id="outer")
            print(json.dumps([context.get_result(f"m{n}") for n in range(20)]))
            """
        )
        sidecar = Sidecar(self, [self.adapter(), self.adapter()])
        self.assertEqual(self.output(producer), [100 + n for n in range(20)])
        sidecar.stop()
        self.assertEqual(sidecar.errors, [])


if __name__ == "__main__":
    unittest.main()
