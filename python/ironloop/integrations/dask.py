"""Dask distributed on ironloop: its schedulers, workers, nannies and clients.

    python -m ironloop.integrations.dask scheduler --port 8786
    python -m ironloop.integrations.dask worker tcp://127.0.0.1:8786

    from ironloop.integrations import dask as ironloop_dask
    ironloop_dask.install()                # at the top of a program, outside of `if __name__ == "__main__"`

A nanny starts its worker as a fresh process by multiprocessing, which imports the program's main module there first,
under the name `__mp_main__`. So what a main module does at its top level happens in the workers too, and this module
installs itself when it is the main one.
"""

from __future__ import annotations

import sys

import dask

import ironloop

_COMMANDS = ("scheduler", "worker", "spec")


def install() -> None:
    """Have every later loop of distributed's in this process be one of ironloop's.

    Sets the configuration `distributed.admin.event-loop` to "asyncio", which says that asyncio's policy decides, and
    the policy. Call it at the top level of the main module: then the processes that a nanny or a `LocalCluster` starts
    do it, too.
    """
    dask.config.set({"distributed.admin.event-loop": "asyncio"})
    ironloop.install()


def _main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in _COMMANDS:
        print(f"usage: python -m ironloop.integrations.dask ({' | '.join(_COMMANDS)}) [options]", file=sys.stderr)
        print("Options are those of the dask program's command of that name.", file=sys.stderr)
        return 2
    from importlib import import_module

    command = sys.argv.pop(1)
    sys.argv[0] = f"dask {command}"
    import_module(f"distributed.cli.dask_{command}").main()
    return 0


if __name__ in ("__main__", "__mp_main__"):
    install()
if __name__ == "__main__":
    sys.exit(_main())
