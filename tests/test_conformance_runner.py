"""The runner of CPython's tests: a test that hangs or dies fails alone, and none is lost."""

from __future__ import annotations

import sys
import threading

import pytest

from tests.cpython.pool import Batch, Pool, WorkerError

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


OPEN_END = """
import os, unittest

class Tests(unittest.TestCase):
    def test_passes(self):
        self.assertNotIn("SET_LATER", os.environ)

def tearDownModule():
    if "DIE_AT_THE_END" in os.environ:
        os.abort()
"""
PASSES = "test_end.Tests.test_passes"


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    """The modules above, where the workers find them."""
    package = tmp_path / "package_of_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_them.py").write_text(MODULE)
    (package / "test_end.py").write_text(OPEN_END)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


def pool_of(size):
    return Pool("package_of_tests", "ironloop", size)


@pytest.fixture
def results():
    """What became of the tests of `MODULE`, by the name of the test."""
    ids = {name: f"test_them.Tests.test_{name}" for name in NAMES}
    ids["broken"] = "test_them.Broken.test_is_not_reached"
    pool = pool_of(2)
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


@pytest.mark.slow
def test_who_waits_for_a_test_that_nobody_runs_is_told_when_all_workers_have_ended(monkeypatch):
    told = threading.Event()
    run = threading.Thread.run

    def run_and_linger(thread):
        """A thread is alive for a while after the last that it does."""
        run(thread)
        told.wait()

    monkeypatch.setattr(threading.Thread, "run", run_and_linger)
    pool = pool_of(2)
    pool.start([Batch("test_end", [PASSES], 20)])
    try:
        result = pool.result("test_end.Tests.test_of_no_batch")
    finally:
        told.set()
    assert (result.outcome, result.text) == ("failed", "no worker has run it")
    assert pool.result(PASSES).outcome == "passed"
    pool.stop()


def test_a_worker_that_cannot_be_started_is_the_failure_of_its_tests(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no interpreter"))
    pool = pool_of(1)
    pool.start([Batch("test_end", [PASSES], 20), Batch("test_them", ["test_them.Tests.test_a_passes"], 20)])
    for id in (PASSES, "test_them.Tests.test_a_passes"):
        result = pool.result(id)
        assert result.outcome == "failed"
        assert "FileNotFoundError" in result.text
    pool.stop()


@pytest.mark.slow
def test_a_worker_that_dies_behind_its_last_test_is_told_at_the_end(monkeypatch):
    monkeypatch.setenv("DIE_AT_THE_END", "1")
    pool = pool_of(1)
    pool.start([Batch("test_end", [PASSES], 20)])
    assert pool.result(PASSES).outcome == "passed"
    assert pool.result("test_end.Tests.test_of_no_batch").outcome == "failed"  # now all have ended
    with pytest.raises(WorkerError, match="test_end, after its last test: ended the process, status -6"):
        pool.stop()


@pytest.mark.slow
def test_workers_have_the_environment_of_the_pool_s_making(monkeypatch):
    """pytest changes its own with every test, while the pool's threads start workers."""
    pool = pool_of(1)
    monkeypatch.setenv("SET_LATER", "1")
    pool.start([Batch("test_end", [PASSES], 20)])
    result = pool.result(PASSES)
    assert result.outcome == "passed", result.text
    pool.stop()
