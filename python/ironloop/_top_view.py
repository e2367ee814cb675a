"""The picture of `python -m ironloop top`, drawn by rich: rates as sparklines, the slowest callback, the task tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ._top import HISTORY, task_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._top import History

BARS = "▁▂▃▄▅▆▇█"
TASKS_SHOWN = 15
FEWEST_TASKS = 3


def live(snapshots: Iterator[dict[str, Any]], history: History, console: Console | None = None) -> None:
    """Draw each snapshot when it comes, until there are no more."""
    console = console or Console()
    with Live(console=console, auto_refresh=False) as view:
        for snapshot in snapshots:
            history.add(snapshot)
            view.update(picture(history, console.height if console.is_terminal else None), refresh=True)


def picture(history: History, height: int | None = None) -> RenderableType:
    """All of it, with as many tasks as have room in so many lines."""
    snapshot, loop = history.snapshot, history.loop
    command = " ".join(str(word) for word in snapshot.get("command", []))
    title = f"ironloop {snapshot.get('ironloop')} on Python {snapshot.get('python')}, process {snapshot.get('pid')}"
    if not loop:
        return Panel(Text(f"{command}\nno open loop"), title=title)
    return Group(
        Panel(Text(command, overflow="ellipsis", no_wrap=True), title=title, title_align="left"),
        _rates(history),
        _state(loop),
        _tasks(loop, _room(history, height)),
    )


def _room(history: History, height: int | None) -> int:
    """How many tasks to show: what the other parts, and the frames around them, leave of the terminal."""
    if height is None:
        return TASKS_SHOWN
    # The loop's line may need two.
    others = 3 + 1 + max(len(history.series), 1) + 4 + len(history.loop["metrics"]["slowest_callbacks"]) + 3
    return min(max(height - others, FEWEST_TASKS), TASKS_SHOWN)


def _rates(history: History) -> RenderableType:
    table = Table(expand=True, box=None, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("most", justify="right", no_wrap=True)
    table.add_column(f"last {HISTORY} looks", ratio=1, no_wrap=True)
    for name, values in history.series.items():
        table.add_row(name, f"{values[-1]:,.1f}", f"{max(values):,.1f}", Text(sparkline(values), style="green"))
    if not history.complete:
        table.add_row("waiting for the second look", "", "", "")
    return table


def sparkline(values: list[float]) -> str:
    """One character per value, from the lowest bar for 0 to the highest for the largest."""
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] if value > 0 else BARS[0] for value in values)


def _state(loop: dict[str, Any]) -> RenderableType:
    metrics = loop["metrics"]
    line = Text.assemble(
        ("ready ", "bold"),
        f"{metrics['ready']:,}   ",
        ("timers ", "bold"),
        f"{metrics['timers']:,}   ",
        ("accepted ", "bold"),
        f"{metrics['connections_accepted']:,}   ",
        ("executor ", "bold"),
        f"{metrics['executor_running']} running, {metrics['executor_waiting']} waiting   ",
        ("slow callbacks ", "bold"),
        (f"{metrics['slow_callbacks']:,}", "red" if metrics["slow_callbacks"] else ""),
    )
    for name, seconds in metrics["slowest_callbacks"]:
        line.append(f"\n{seconds:7.3f} s  {name}", style="red")
    return Panel(line, title="loop", title_align="left")


def _tasks(loop: dict[str, Any], room: int) -> RenderableType:
    lines = task_tree(loop["tasks"])
    rest = loop["count"] - min(len(lines), room)
    text = "\n".join(lines[:room]) + (f"\nand {rest} more" if rest > 0 else "")
    return Panel(Text(text, overflow="ellipsis", no_wrap=True), title=f"{loop['count']} tasks", title_align="left")
