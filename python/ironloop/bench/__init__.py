"""`python -m ironloop bench`: the event loops that are installed here, side by side on this machine.

Every sample is taken in a fresh process, which imports nothing of ironloop unless that is the loop it measures; the
loops take turns, round by round. What is compared is operations per second of CPU time, which other work on the machine
disturbs least. Everything is in Python and part of the package, so it works wherever the package is installed;
`benches/` of the sources measures more rows, with a load client that is faster than any of the loops.

    rows.py      what is measured          programs/   by which programs       loops.py   who takes part
    session.py   in which order            worker.py   the measured process    client.py  the load on a server
    report.py    the table and the chart   bars.py     how the chart is drawn  machine.py what it is measured on
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    from .command import main

    return main(arguments)
