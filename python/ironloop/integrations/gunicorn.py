"""Worker classes for gunicorn: `gunicorn -k ironloop.integrations.gunicorn.Worker app:app`.

    Worker           gunicorn's own ASGI worker (gunicorn 24 and later)
    UvicornWorker    uvicorn's worker (package uvicorn-worker): uvicorn's protocols, gunicorn's processes
    AiohttpWorker    aiohttp's worker, for an aiohttp.web application

Each is that worker with another loop, and is made when it is first asked for, since each wants another package.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from ironloop import install, new_event_loop


@cache
def _worker() -> type[Any]:
    try:
        base: Any = import_module("gunicorn.workers.gasgi").ASGIWorker
    except ModuleNotFoundError as error:
        raise ImportError("before version 24, gunicorn has no ASGI worker of its own: use UvicornWorker") from error

    class Worker(base):  # type: ignore[misc]
        """gunicorn's ASGI worker on ironloop's loop, whatever `--asgi-loop` says."""

        def _setup_event_loop(self) -> None:
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)

    return Worker


@cache
def _uvicorn_worker() -> type[Any]:
    base: Any = import_module("uvicorn_worker").UvicornWorker

    class UvicornWorker(base):  # type: ignore[misc]
        """uvicorn's worker on ironloop's loop."""

        CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**base.CONFIG_KWARGS, "loop": "ironloop:new_event_loop"}

    return UvicornWorker


@cache
def _aiohttp_worker() -> type[Any]:
    base: Any = import_module("aiohttp.worker").GunicornWebWorker

    class AiohttpWorker(base):  # type: ignore[misc]
        """aiohttp's worker, which asks asyncio for its loop, in a process where that is ironloop's."""

        def init_process(self) -> None:
            install()
            super().init_process()

    return AiohttpWorker


_CLASSES = {"Worker": _worker, "UvicornWorker": _uvicorn_worker, "AiohttpWorker": _aiohttp_worker}


def __getattr__(name: str) -> type[Any]:
    if name in _CLASSES:
        return _CLASSES[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_CLASSES)
