"""Measures event loops side by side: rows.py says what, loops.py who, session.py in which order.

What `python -m ironloop bench` needs, too, is part of the package: loops.py, work.py, progress.py, bars.py.
"""

import pathlib

__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "python" / "ironloop" / "bench"))
