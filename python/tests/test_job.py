"""The lines that a script writes for the platform."""

import contextlib
import io
import unittest

import asgard


def written(call, *values, **fields):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call(*values, **fields)
    return out.getvalue()


class Progress(unittest.TestCase):
    def test_prints_the_documented_line(self):
        self.assertEqual(written(asgard.progress, 0.4), "::asgard progress 0.4::\n")

    def test_takes_both_ends(self):
        self.assertEqual(written(asgard.progress, 0), "::asgard progress 0.0::\n")
        self.assertEqual(written(asgard.progress, 1), "::asgard progress 1.0::\n")

    def test_writes_four_places_and_no_exponent(self):
        self.assertEqual(written(asgard.progress, 1 / 3), "::asgard progress 0.3333::\n")
        self.assertEqual(written(asgard.progress, 0.00001), "::asgard progress 0.0::\n")

    def test_refuses_percentages_and_nonsense(self):
        for value in (40, -0.1, float("nan"), float("inf")):
            with self.subTest(value=value), self.assertRaisesRegex(ValueError, "0.0 to 1.0"):
                asgard.progress(value)


class Log(unittest.TestCase):
    def test_joins_values_and_fields_on_one_line(self):
        self.assertEqual(written(asgard.log, "epoch", 3, loss=0.21), "epoch 3 loss=0.21\n")


if __name__ == "__main__":
    unittest.main()
