"""worker.py does what its README says."""

import sys
import unittest

from tests.support import ROOT, Worker, WorkerCase


class Example(WorkerCase):
    def setUp(self):
        self.worker = Worker([sys.executable, str(ROOT / "worker.py")])
        self.addCleanup(self.worker.close)

    def run_with(self, **params):
        return self.worker.run({"task_id": "text_1", "params": params})

    def test_a_text(self):
        value = self.run_with(text="To be, or not to be. That's it.", top=2)["value"]
        self.assertEqual((value["words"], value["sentences"]), (8, 2))
        self.assertEqual(value["frequent"], [["to", 2], ["be", 2]])

    def test_a_file(self):
        path = self.folder() / "text"
        path.write_text("one two\n")
        self.assertEqual(self.run_with(path=str(path))["value"]["words"], 2)

    def test_nothing_to_read(self):
        for params, kind in (
            ({}, "BadRecord"),
            ({"text": 7}, "BadRecord"),
            ({"path": "/no/file"}, "FileNotFoundError"),
        ):
            with self.subTest(params):
                error = self.run_with(**params)["error"]
                self.assertEqual((error["type"], error["retryable"]), (kind, False))


if __name__ == "__main__":
    unittest.main()
