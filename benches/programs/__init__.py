"""The programs that are measured, the same for every loop.

A *server* listens, prints its port or path, and serves until it is killed; the load client measures it. *Work* is
called with a number of operations, again and again until the time of a sample is over. A *figure* takes the time of a
sample in seconds and returns what it found. Those that `python -m ironloop bench` has, too, are part of the package.
"""

import pathlib

__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "python" / "ironloop" / "bench" / "programs"))
