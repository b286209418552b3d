import json
import math
import unittest

from graflow_sidecar import _messages as messages


class Values(unittest.TestCase):
    def test_how_a_value_travels(self):
        for value, member in [
            (1, "value"),
            ("text", "value"),
            ([1, {"a": None}], "value"),
            (2**53, "value"),
            (-(2**53), "value"),
            (2**53 + 1, "valueText"),
            ({"deep": [{"er": -(2**60)}]}, "valueText"),
            (float("nan"), "valueText"),
            ([float("inf")], "valueText"),
            (0.12345678901234567, "value"),
            ("12345678901234567890", "value"),
            (True, "value"),
            ("\ud800", "value"),
            ((1, 2), "value"),
        ]:
            with self.subTest(value=value):
                name, text = messages.encode_value(value)
                self.assertEqual(name, member)
                self.assertNotIn("\n", text)
                read = json.loads(text)
                back = json.loads(read) if member == "valueText" else read
                if isinstance(value, float) and math.isnan(value):
                    self.assertTrue(math.isnan(back))
                else:
                    self.assertEqual(back, list(value) if isinstance(value, tuple) else value)

    def test_what_json_has_no_form_for(self):
        loop = []
        loop.append(loop)
        for value in (object(), {1, 2}, b"bytes", {(1, 2): 3}, loop):
            with self.subTest(value=str(value)[:20]):
                self.assertRaises((TypeError, ValueError), messages.encode_value, value)


class Ids(unittest.TestCase):
    def test_found_as_it_stands(self):
        for text, want in [
            ('{"jsonrpc":"2.0","id":7,"method":"x"}', "7"),
            ('{"jsonrpc":"2.0","id":-0,"method":"x"}', "-0"),
            ('{"id" : 1.50e2 ,"method":"x"}', "1.50e2"),
            (' { "id":"a\\u0041\\/" }', '"a\\u0041\\/"'),
            ('{"params":{"id":1},"id":2}', "2"),
            ('{"params":[1,[2]],"id":null}', "null"),
            ('{"id":7,"params":{"record":"cut off he', "7"),
            ('{"method":"id","id":7,', "7"),
            ('{"id":7', None),  # may go on
            ('{"params":{"record":"id', None),
            ('["id",1]', None),
            ("", None),
            ("{", None),
            ('{"id"', None),
            ("{'id':1}", None),
            ("[" * 5000, None),
        ]:
            with self.subTest(text=text[:40]):
                self.assertEqual(messages.find_id(text), want)


class Answers(unittest.TestCase):
    def test_the_id_comes_early(self):
        for line in (
            messages.succeeded("7", "x" * 1000),
            messages.failed("7", "T" * 300, "m"),
            messages.error("7", -1, "m" * 300),
        ):
            self.assertLess(line.index('"id":7'), 256)
            self.assertTrue(line.endswith("\n"))
            self.assertEqual(line.count("\n"), 1)
            json.loads(line)


if __name__ == "__main__":
    unittest.main()
