"""The site that mkdocs builds of docs/: links, pictures, and nothing that is loaded from elsewhere."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Attributes that make a browser fetch something, by element.
FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids.add(named.get("id"))
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if named.get(FETCHED.get(tag, "")):
            self.fetched.append(named[FETCHED[tag]])
        if tag == "img":
            assert named.get("alt"), f"a picture without a description: {named}"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def broken(pages, path, reference):
    """Whether a reference within the site leads nowhere."""
    parts = urlsplit(reference)
    if parts.scheme or reference.startswith("//"):
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return True
    # `__skip` and its like are the theme's own; the page of errors does not say where it is.
    return bool(parts.fragment) and target in pages and unquote(parts.fragment) not in pages[target].ids


@pytest.mark.slow
def test_links_and_pictures_lead_to_something(pages):
    assert len(pages) > 10
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        lost = [reference for reference in page.links + page.fetched if broken(pages, path, reference)]
        assert lost == [], path.name


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert [reference for reference in page.fetched if urlsplit(reference).netloc] == [], path.name
    for path in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*", path.read_text(encoding="utf-8")) == [], path.name


def test_the_diagrams_are_those_that_the_script_draws(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "make_diagrams.py", tmp_path], check=True, timeout=50)
    for name in ("turn.svg", "routes.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()


def test_the_files_on_the_diagram_are_there():
    drawn = (ROOT / "docs" / "routes.svg").read_text()
    names = set(re.findall(r">([\w/]+\.(?:rs|py))<", drawn))
    assert len(names) > 10
    for name in names:
        places = [ROOT / "src", ROOT / "src" / "asyncio", ROOT / "src" / "engine", ROOT / "python" / "ironloop"]
        assert any((place / name).is_file() for place in [*places, ROOT / "src" / "asyncio" / ".."]), name
