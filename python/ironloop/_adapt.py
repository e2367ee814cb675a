"""What chooses its event loop past the policy is told, under the launcher, that it is ironloop's.

    uvicorn.config            "auto" means uvloop, or asyncio.SelectorEventLoop; here it means ours,
    granian._loops            and here,
    gunicorn.workers.gasgi    and here; whoever names a loop gets that one
    multiprocessing.spawn     children that start afresh (spawn, forkserver) know no policy: they are told, too

A module is adapted right after it has been imported, if ever, and nothing is imported for this. Only
`python -m ironloop` does so: its user asked for this loop. `import ironloop` and `ironloop.install()` change nothing
outside of asyncio.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def install_everywhere() -> None:
    """Install the policy, and adapt what does not ask it: in this process and in those that multiprocessing starts."""
    from ironloop import install

    install()
    if any(type(finder) is _Finder for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name, adapt in ADAPTATIONS.items():
        if name in sys.modules:
            adapt(sys.modules[name])


def _adapt_uvicorn(config: ModuleType) -> None:
    if hasattr(config, "LOOP_FACTORIES"):
        config.LOOP_FACTORIES["auto"] = f"{__name__}:uvicorn_loop_factory"
    elif hasattr(config, "LOOP_SETUPS"):
        # Before 0.36: what is to be done before asyncio is asked for a loop.
        config.LOOP_SETUPS["auto"] = None


def uvicorn_loop_factory(use_subprocess: bool = False) -> Callable[[], Any]:
    """What uvicorn wants in its table: a function that returns the loop factory."""
    from ironloop import new_event_loop

    return new_event_loop


def _adapt_granian(loops: ModuleType) -> None:
    @loops.loops.register("auto")  # type: ignore[untyped-decorator, unused-ignore]
    def build_loop() -> Any:
        import asyncio

        from ironloop import new_event_loop

        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


def _adapt_gunicorn(gasgi: ModuleType) -> None:
    original = gasgi.ASGIWorker._setup_event_loop

    def setup_event_loop(worker: Any) -> None:
        if worker.cfg.asgi_loop == "auto":
            worker.cfg.set("asgi_loop", "asyncio")  # which asks the policy
        original(worker)

    gasgi.ASGIWorker._setup_event_loop = setup_event_loop


#: Not a reference to `install_everywhere`: the child may run on another interpreter (`multiprocessing.set_executable`).
INSTALL = """
try:
    from ironloop._adapt import install_everywhere
except ModuleNotFoundError:
    pass
else:
    install_everywhere()
"""


class _InstallInChild:
    """Installs ironloop where it is unpickled, if it is there."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, dict[str, Any]]]:
        return exec, (INSTALL, {})


def _adapt_spawn(spawn: ModuleType) -> None:
    original = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        # The child reads this before anything of the program's, and passes over keys that it does not know.
        data: dict[str, Any] = original(name)
        data["ironloop"] = _InstallInChild()
        return data

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


ADAPTATIONS: dict[str, Callable[[ModuleType], None]] = {
    "uvicorn.config": _adapt_uvicorn,
    "granian._loops": _adapt_granian,
    "gunicorn.workers.gasgi": _adapt_gunicorn,
    "multiprocessing.spawn": _adapt_spawn,
}


class _Finder:
    """Finds the modules of `ADAPTATIONS` where they are, and adapts each when it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        adapt = ADAPTATIONS.get(name)
        if adapt is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            adapt(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
