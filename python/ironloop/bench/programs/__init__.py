"""The programs that are measured, the same for every loop.

*Work* is called with a number of operations, again and again until the time of a sample is over. A *server* listens,
prints its port, and serves until it is killed.
"""
