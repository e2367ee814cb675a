"""The site in a real browser, as wide as a desktop and as narrow as a phone: all pictures there, nothing too wide.

One run of headless Chromium looks at all pages: a page of ours shows each in a frame of either width and sends what it
sees back to the server.
"""

from __future__ import annotations

import json

import pytest

from tests.support.browser import look

WIDTHS = {"phone": 360, "desktop": 1280}
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
const cases = %s, seen = [];
function look(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const pictures = [...page.images].map(image => [image.getAttribute("src"), image.complete && image.naturalWidth > 0]);
  return {title: page.title, width: root.scrollWidth, room: root.clientWidth, pictures,
          styled: page.styleSheets.length, text: page.body.innerText.length};
}
async function main() {
  for (const [path, width] of cases) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 800px; border: 0`;
    const loaded = new Promise(done => frame.onload = done);
    frame.src = path;
    document.body.append(frame);
    await loaded;
    for (const image of frame.contentDocument.images) await image.decode().catch(() => {});
    seen.push({path, asked: width, ...look(frame)});
    frame.remove();
  }
  await fetch("seen", {method: "POST", body: JSON.stringify(seen)});
}
main();
</script>"""


@pytest.fixture(scope="module")
def seen(site, tmp_path_factory):
    """What the browser sees of each page at each width."""
    paths = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    cases = [(path, width) for path in paths for width in WIDTHS.values()]
    found = look(LOOK % json.dumps(cases), site, tmp_path_factory.mktemp("profile"))
    assert [(page["path"], page["asked"]) for page in found] == cases
    return found


@pytest.mark.slow
def test_no_page_is_wider_than_its_window(seen):
    assert {page["room"] for page in seen} <= {width - bar for width in WIDTHS.values() for bar in range(20)}
    assert [(page["path"], page["asked"], page["width"]) for page in seen if page["width"] > page["room"]] == []


@pytest.mark.slow
def test_all_pictures_are_shown(seen):
    pictures = [(page["path"], source, shown) for page in seen for source, shown in page["pictures"]]
    assert {source for _, source, _ in pictures} >= {"turn.svg", "routes.svg", "top.svg"}
    assert [picture for picture in pictures if not picture[2]] == []


@pytest.mark.slow
def test_pages_are_styled_and_say_something(seen):
    for page in seen:
        assert "ironloop" in page["title"]
        assert page["styled"] >= 2
        assert page["path"] == "404.html" or page["text"] > 500
