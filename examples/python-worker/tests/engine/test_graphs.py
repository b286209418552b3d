"""One process runs many tasks of the same graph."""

import unittest

from tests.engine.support import EngineCase


class Graphs(EngineCase):
    def test_next_task_twice_in_one_process(self):
        # The store hands out one graph object; the second run would find the
        # new task in it, take next_task for a jump and skip the successor.
        records = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def start(ctx):
                    @task
                    def extra():
                        return None
                    ctx.get_channel().append("order", "start")
                    ctx.next_task(extra)
                @task(inject_context=True)
                def after(ctx):
                    ctx.get_channel().append("order", "after")
                start >> after
            push(context_of(flow), "start", "start")
            """
        )
        worker = self.adapter()
        for times in (1, 2):
            self.succeed(worker, records[times - 1])
            order = self.client.lrange(f"graflow:channel:{self.session}:order", 0, -1)
            self.assertEqual(order, ['"start"', '"after"'] * times)

    def test_next_iteration_twice_in_one_process(self):
        records = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True, max_cycles=5)
                def count(ctx, n=0):
                    ctx.get_channel().append("seen", n)
                    if n < 3:
                        ctx.next_iteration(n + 1)
                    return n
                flow.graph.add_node(count, skip_if_exists=True)
            context = context_of(flow)
            push(context, "count", "count")
            """
        )
        worker = self.adapter()
        for times in (1, 2):
            self.succeed(worker, records[times - 1])
            seen = self.client.lrange(f"graflow:channel:{self.session}:seen", 0, -1)
            self.assertEqual(seen, ["0", "1", "2", "3"] * times)

    def test_an_edge_that_a_task_adds_ends_with_its_run(self):
        first, second = self.records(
            """
            with workflow("w") as flow:
                @task(inject_context=True)
                def start(ctx):
                    if ctx.get_channel().get("detour"):
                        ctx.graph.add_edge("start", "detour")
                @task(inject_context=True)
                def detour(ctx):
                    ctx.get_channel().set("taken", True)
                for node in (start, detour):
                    flow.graph.add_node(node, skip_if_exists=True)
            known = None
            for wanted in (True, False):
                context = context_of(flow)
                context.graph_hash = known
                context.channel.set("detour", wanted)
                push(context, "start")
                known = context.graph_hash
            """
        )
        self.assertEqual(first["graph_hash"], second["graph_hash"])
        worker = self.adapter()
        self.succeed(worker, first)
        self.succeed(worker, second)
        self.assertTrue(self.channel("taken", first["session_id"]))
        self.assertFalse(self.client.exists(f"graflow:channel:{second['session_id']}:taken"))

    def test_an_unchanged_graph_is_unpickled_once(self):
        records = self.records(
            """
            with workflow("w") as flow:
                nodes = []
                for n in range(3000):
                    def work():
                        return None
                    nodes.append(task(work, id=f"n{n}"))
                for node in nodes:
                    flow.graph.add_node(node, skip_if_exists=True)
            push(context_of(flow), *[f"n{n}" for n in range(30)])
            """
        )
        worker = self.adapter()
        before = self.calls("getex")
        for record in records:
            self.succeed(worker, record)
        self.assertEqual(self.calls("getex") - before, 1)

    def calls(self, command: str) -> int:
        return self.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]

    def test_the_life_of_a_graph_is_renewed(self):
        records = self.records(
            """
            with workflow("w") as flow:
                @task
                def work():
                    return None
                flow.graph.add_node(work, skip_if_exists=True)
            push(context_of(flow), "work")
            """
        )
        key = f"{self.prefix}:graph:{records[0]['graph_hash']}"
        self.client.expire(key, 100)
        self.succeed(self.adapter(), records[0])
        self.assertGreater(self.client.ttl(key), 86000)

    def test_no_session_sees_the_channel_of_an_earlier_one(self):
        # inner keeps the context it ran in. Called as a function by a later
        # session's task it would read the earlier session's channel.
        source = """
            with workflow("w") as flow:
                @task
                def inner(value):
                    return value
                @task
                def outer():
                    try:
                        return inner.run()
                    except TypeError:
                        return "no value of another session"
                flow.graph.add_node(inner, skip_if_exists=True)
                flow.graph.add_node(outer, skip_if_exists=True)
            for session in ("one", "two"):
                context = context_of(flow)
                context.channel.set("value", session)
                context.graph_hash = globals().get("known")
                push(context, "inner" if session == "one" else "outer")
                known = context.graph_hash
            """
        first, second = self.records(source)
        self.assertEqual(first["graph_hash"], second["graph_hash"])
        worker = self.adapter()
        self.succeed(worker, first)
        self.succeed(worker, second)
        self.assertEqual(self.channel("outer.__result__"), "no value of another session")

    def test_a_group_leaves_no_context_either(self):
        records = self.records(
            """
            with workflow("w") as flow:
                @task
                def left():
                    return 1
                @task
                def right():
                    return 2
                group = (left | right).set_group_name("both")
                group.with_execution(backend=THREADS)
                @task
                def look():
                    return [hasattr(node, "_execution_context") for node in (left, right, group)]
                flow.graph.add_node(look, skip_if_exists=True)
            push(context_of(flow), "both", "look")
            """
        )
        worker = self.adapter()
        for record in records:
            self.succeed(worker, record)
        self.assertEqual(self.channel("look.__result__"), [False, False, False])
        self.assertEqual(self.channel("right.__result__"), 2)


if __name__ == "__main__":
    unittest.main()
