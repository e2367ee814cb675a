"""docs/integrations.md: what it offers to run is in the tests beside this one, and its programs are well-formed."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.support.page import PAGE, page

NEEDS = ()
HERE = Path(__file__).parent


@pytest.mark.parametrize("title", [title for title, section in page().items() if section.files or section.lines])
def test_a_section_with_something_to_run_is_run_by_a_test(title):
    tests = [path.read_text() for path in HERE.glob("test_*.py") if path != Path(__file__)]
    assert any(json.dumps(title) in text for text in tests)


def test_no_block_is_left_out():
    """A block of code is a file, or a console; the page's other blocks would not be run by anybody."""
    blocks = PAGE.read_text().count("\n```") // 2
    files = sum(len(section.files) for section in page().values())
    consoles = PAGE.read_text().count("\n```console\n")
    assert files + consoles == blocks


@pytest.mark.parametrize(
    ("title", "name"), [(title, name) for title, section in page().items() for name in section.files]
)
def test_a_file_is_well_formed(title, name):
    text = page()[title].files[name]
    if name.endswith(".json"):
        assert json.loads(text)
    else:
        ast.parse(text)
