"""Draws turn.svg and routes.svg of how-it-works.md: `python docs/make_diagrams.py [FOLDER]` (default: this folder).

turn.svg: what the loop does, round and round. routes.svg: five ways through the code, with the files that they lead
through. A test draws them again and compares, and looks whether the files are there.
"""

from __future__ import annotations

import pathlib
import sys
from xml.sax.saxutils import escape

BOX_HEIGHT = 58
GAP = 34
MARGIN = 16
STYLE = """
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1d2733 }
  .name { font-size: 15px; font-weight: 600 } .note { font-size: 12px; fill: #51606f }
  .title { font-size: 16px; font-weight: 700 }
  .rust { fill: #fde7d6; stroke: #c2571a } .python { fill: #dcebfb; stroke: #2c6fb3 }
  .kernel { fill: #e6e9ec; stroke: #6b7785 }
  path { fill: none; stroke: #51606f; stroke-width: 1.6 }
"""

# (name, note, whose code it is)
Box = tuple[str, str, str]

TURN: list[Box] = [
    ("take the inbox", "from other threads", "rust"),
    ("how long to sleep?", "0 if something is ready", "rust"),
    ("poll", "epoll; without the GIL", "kernel"),
    ("queue the events", "token to transport", "rust"),
    ("queue due timers", "by deadline", "rust"),
    ("run the batch", "what is queued now", "python"),
]

ROUTES: list[tuple[str, list[Box]]] = [
    ("a byte received", [
        ("reactor", "engine/reactor/mod.rs", "kernel"),
        ("ready queue", "event_loop/ready.rs", "rust"),
        ("transport", "transport/read.rs", "rust"),
        ("data_received()", "your protocol", "python"),
        ("write, send", "transport/write.rs", "rust"),
    ]),
    ("a callback", [
        ("call_soon()", "your program", "python"),
        ("scheduling", "event_loop/scheduling.rs", "rust"),
        ("ready queue", "event_loop/ready.rs", "rust"),
        ("in its context", "asyncio/callback.rs", "rust"),
        ("the callback", "your program", "python"),
    ]),
    ("a timer", [
        ("call_later()", "your program", "python"),
        ("nanoseconds", "event_loop/timers.rs", "rust"),
        ("4-ary heap", "engine/time/timer_heap.rs", "rust"),
        ("due", "event_loop/turn.rs", "rust"),
        ("the callback", "your program", "python"),
    ]),
    ("a child's exit", [
        ("pidfd", "event_loop/watchers.rs", "kernel"),
        ("waitpid", "_subprocess.py", "python"),
        ("pipes at their end", "transport/pipe/reading.rs", "rust"),
        ("process_exited()", "asyncio, your protocol", "python"),
        ("connection_lost()", "your protocol", "python"),
    ]),
    ("a TLS record", [
        ("reactor", "engine/reactor/mod.rs", "kernel"),
        ("transport", "transport/read.rs", "rust"),
        ("states", "engine/tls/pump.rs", "rust"),
        ("libssl", "sys/openssl/session.rs", "rust"),
        ("data_received()", "your protocol", "python"),
    ]),
]  # fmt: skip


def box(x: float, y: float, width: float, content: Box) -> str:
    name, note, kind = content
    middle = x + width / 2
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text class="name" text-anchor="middle" x="{middle:g}" y="{y + 25:g}">{escape(name)}</text>'
        f'<text class="note" text-anchor="middle" x="{middle:g}" y="{y + 45:g}">{escape(note)}</text>'
    )


def arrow(points: str) -> str:
    return f'<path d="{points}" marker-end="url(#tip)"/>'


def picture(width: float, height: float, title: str, parts: list[str]) -> str:
    tip = '<path d="M0,0 L7,3.5 L0,7" style="stroke-width:1.4"/>'
    legend = "".join(
        f'<rect class="{kind}" x="{MARGIN + offset}" y="{height - 26:g}" width="16" height="14" rx="3"/>'
        f'<text class="note" x="{MARGIN + offset + 22}" y="{height - 15:g}">{text}</text>'
        for kind, text, offset in (("rust", "Rust", 0), ("python", "Python", 80), ("kernel", "the system", 176))
    )
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="-1 -1 9 9" refX="7" refY="3.5" markerWidth="9" markerHeight="9"',
        f' orient="auto">{tip}</marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" rx="10" fill="#fbfcfd"/>',
        *parts,
        legend,
        "</svg>",
        "",
    ])  # fmt: skip


def turn() -> str:
    """Two rows of three boxes, run through clockwise."""
    width = 210.0
    step = width + GAP
    parts = []
    places = [(column * step + MARGIN, 52.0) for column in range(3)]
    places += [(column * step + MARGIN, 52.0 + BOX_HEIGHT + 50) for column in (2, 1, 0)]
    parts.append(f'<text class="title" x="{MARGIN}" y="32">one turn of the loop</text>')
    parts += [box(x, y, width, content) for (x, y), content in zip(places, TURN, strict=True)]
    middle = BOX_HEIGHT / 2
    for (x, y), (next_x, next_y) in zip(places, places[1:] + places[:1], strict=True):
        if x == next_x:
            start, end = (y + BOX_HEIGHT, next_y) if next_y > y else (y, next_y + BOX_HEIGHT)
            parts.append(arrow(f"M{x + width / 2:g},{start:g} V{end:g}"))
        else:
            start, end = (x + width, next_x) if next_x > x else (x, next_x + width)
            parts.append(arrow(f"M{start:g},{y + middle:g} H{end:g}"))
    return picture(3 * step - GAP + 2 * MARGIN, 52 + 2 * BOX_HEIGHT + 50 + 44, "One turn of the loop", parts)


def routes() -> str:
    """A lane for each route."""
    width = 200.0
    step = width + GAP
    lane = BOX_HEIGHT + 52
    parts = []
    for number, (title, boxes) in enumerate(ROUTES):
        y = number * lane + 42
        parts.append(f'<text class="title" x="{MARGIN}" y="{y - 12:g}">{escape(title)}</text>')
        for column, content in enumerate(boxes):
            x = MARGIN + column * step
            parts.append(box(x, y, width, content))
            if column:
                parts.append(arrow(f"M{x - GAP:g},{y + BOX_HEIGHT / 2:g} H{x:g}"))
    return picture(5 * step - GAP + 2 * MARGIN, 5 * lane + 52, "Five routes through the code", parts)


def main() -> None:
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    (folder / "turn.svg").write_text(turn())
    (folder / "routes.svg").write_text(routes())


if __name__ == "__main__":
    main()
