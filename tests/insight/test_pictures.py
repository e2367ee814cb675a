"""The pictures of the documentation: made again from a program that runs, they show what those in the repository do."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.peers.programs import package

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
BARS = "▁▂▃▄▅▆▇█"


def texts(picture):
    """What is written in a picture of the terminal, line by line."""
    lines = {}
    for element in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" in element.attrib:
            lines.setdefault(float(element.attrib["y"]), []).append(element.text.replace("\xa0", " "))
    return [" ".join(lines[y]) for y in sorted(lines)]


def structure(lines):
    """The words, without numbers, curves, lines around them, and classes, which Python 3.10 does not tell.

    Nor what a client waits for at the moment.
    """
    lines = [re.sub(r"StreamReader\.|(?<=in client), waits in .*", "", line) for line in lines]
    return {re.sub(rf"[0-9.,{BARS}│╭╮╰╯─\s]+", " ", line).strip() for line in lines} - {""}


@pytest.mark.slow
def test_the_picture_of_top_is_what_it_shows_today(tmp_path):
    package("rich")
    command = [sys.executable, str(DOCS / "make_pictures.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=50, stderr=subprocess.PIPE)
    made, kept = texts(tmp_path / "top.svg"), texts(DOCS / "top.svg")
    assert structure(made) == structure(kept)
    rates = {line.split("  ")[0].strip(): line for line in made if any(bar in line for bar in BARS)}
    assert len(rates) == 12
    for name in ("callbacks/s", "I/O events/s", "timers/s", "KiB in/s", "connections"):
        # Now, which on a slow machine may be nothing, and the most.
        most = re.findall(r"[0-9][0-9,.]*", rates[name])[1].replace(",", "")
        assert float(most) > 0, rates[name]
        assert any(bar in rates[name] for bar in BARS[1:]), "a curve, not the floor"
