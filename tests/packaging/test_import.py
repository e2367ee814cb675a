"""Importing the package: which modules it brings along, which decides how long it takes."""

from __future__ import annotations

import json
import subprocess
import sys

# What an import of ours may load besides our own modules and asyncio's: the thread pool's class, which
# asyncio loads itself with the first `run_in_executor`, and the words for types, which asyncio loads before 3.14.
OF_OTHERS = {"__future__", "_queue", "queue", "concurrent.futures.thread", "typing", "_typing"}
# Ours that are for programs which ask for them.
LATE = {"_compare", "_launcher", "_policy", "_top", "_top_view", "_trace", "inspect", "metrics"}

CODE = """
import asyncio, json, sys
before = set(sys.modules)
import ironloop
after_import = set(sys.modules)
ironloop.run(asyncio.sleep(0))
print(json.dumps([sorted(after_import - before), sorted(set(sys.modules) - after_import)]))
"""


def modules_loaded():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return [set(names) for names in json.loads(done.stdout)]


def test_the_import_loads_little_besides_our_own_modules():
    with_import, _ = modules_loaded()
    others = {name for name in with_import if not name.startswith("ironloop")}
    assert others <= OF_OTHERS
    assert {"ironloop", "ironloop._native", "ironloop._loop"} <= with_import


def test_the_import_leaves_alone_what_most_programs_do_not_need():
    with_import, with_run = modules_loaded()
    assert not {f"ironloop.{name}" for name in LATE} & (with_import | with_run)


def test_the_first_run_loads_no_module_of_the_standard_library():
    _, with_run = modules_loaded()
    assert {name for name in with_run if not name.startswith("ironloop")} == set()
