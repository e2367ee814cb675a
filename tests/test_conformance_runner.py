"""The runner of CPython's tests: a test that hangs or dies fails alone, and none is lost."""

from __future__ import annotations

import pytest

from tests.cpython.pool import Batch, Pool

MODULE = """
import asyncio, os, time, unittest

class Tests(unittest.TestCase):
    def test_a_passes(self):
        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_b_fails(self):
        print("said before")
        self.fail("on purpose")

    def test_c_hangs(self):
        time.sleep(1000)

    def test_d_skips(self):
        self.skipTest("for a reason")

    def test_e_dies(self):
        os.abort()

    def test_f_fails_in_part(self):
        for number in (1, 2):
            with self.subTest(number=number):
                self.assertEqual(number, 1)

    def test_g_makes_no_loop(self):
        pass

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("no fixture")

    def test_is_not_reached(self):
        pass
"""
NAMES = ["a_passes", "b_fails", "c_hangs", "d_skips", "e_dies", "f_fails_in_part", "g_makes_no_loop"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """What became of the tests above, by the name of the test."""
    package = tmp_path / "package_of_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_them.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    ids = {name: f"test_them.Tests.test_{name}" for name in NAMES}
    ids["broken"] = "test_them.Broken.test_is_not_reached"
    pool = Pool("package_of_tests", "ironloop", 2)
    pool.start([Batch("test_them", list(ids.values())[:-1], 1.5), Batch("test_them", [ids["broken"]], 1.5)])
    found = {name: pool.result(id) for name, id in ids.items()}
    pool.stop()
    return found


@pytest.mark.slow
def test_each_test_has_its_own_end(results):
    assert {name: result.outcome for name, result in results.items()} == {
        "a_passes": "passed",
        "b_fails": "failed",
        "c_hangs": "failed",
        "d_skips": "skipped",
        "e_dies": "failed",
        "f_fails_in_part": "failed",
        "g_makes_no_loop": "passed",
        "broken": "failed",
    }
    assert "on purpose" in results["b_fails"].text
    assert "said before" in results["b_fails"].text
    assert "time.sleep(1000)" in results["c_hangs"].text or "test_c_hangs" in results["c_hangs"].text
    assert "longer than its time limit" in results["c_hangs"].text
    assert results["d_skips"].text == "for a reason"
    assert "status -6" in results["e_dies"].text
    assert "test_e_dies" in results["e_dies"].text
    assert "number=2" in results["f_fails_in_part"].text
    assert "no fixture" in results["broken"].text
    assert (results["a_passes"].loops, results["a_passes"].runs) == (1, 1)
    assert (results["g_makes_no_loop"].loops, results["g_makes_no_loop"].other_loops) == (0, ())
