"""What a loop counts, as instruments of OpenTelemetry; `ironloop.metrics.opentelemetry` is the way in.

The instruments are asynchronous ones: they cost nothing until a reader of the SDK collects, which asks every loop for a
snapshot, in the reader's thread. A meter has each instrument once, for all loops that report to it; a loop is told
from another by its attributes, is not kept alive, and is left out once it is closed. There is no asynchronous
histogram, so durations appear as OpenTelemetry's own conventions for runtimes have them: quantiles as gauges.
Needs `opentelemetry-api`, which the extra `ironloop[otel]` installs; where to export is up to the program.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation, get_meter  # type: ignore[import-not-found, unused-ignore]

from . import _native
from .metrics import _GAUGES, _HELP, _HISTOGRAMS, _SECONDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter

    from ._loop import Loop

    Observe = Callable[[CallbackOptions], Iterator[Observation]]

QUANTILES = (0.5, 0.9, 0.99, 1.0)
"""Of the durations since the reader, or another one, looked last; 1 is the longest."""

_lock = threading.Lock()
_reported: weakref.WeakKeyDictionary[Meter, list[_Reported]] = weakref.WeakKeyDictionary()


class _Reported:
    """A loop and the attributes by which it is known."""

    def __init__(self, loop: Loop, attributes: dict[str, Any]) -> None:
        self.loop = weakref.ref(loop)
        self.attributes = attributes
        self.before: dict[str, Histogram] = {}

    def open_loop(self) -> Loop | None:
        loop = self.loop()
        return None if loop is None or loop.is_closed() else loop


def report(loop: Loop, meter: Meter | None, attributes: Mapping[str, Any]) -> None:
    """Report the metrics of `loop` by `meter`; ValueError if another open loop does with the same attributes."""
    if meter is None:
        meter = get_meter("ironloop", _native.__version__)
    with _lock:
        known = _reported.get(meter)
        if known is None:
            known = _reported[meter] = []
            _create_instruments(meter, known)
        others = [one for one in known if one.open_loop() not in (None, loop)]
        if any(one.attributes == dict(attributes) for one in others):
            raise ValueError(f"another loop has the attributes {dict(attributes)!r} already")
        known[:] = [*others, _Reported(loop, dict(attributes))]


def _create_instruments(meter: Meter, known: list[_Reported]) -> None:
    def observe(name: str) -> list[Observe]:
        def observations(_options: CallbackOptions) -> Iterator[Observation]:
            for one in tuple(known):
                if (loop := one.open_loop()) is not None:
                    yield Observation(getattr(loop.metrics(), name), one.attributes)

        return [observations]

    for name, text in _HELP.items():
        unit = "By" if name.startswith("bytes_") else "1"
        meter.create_observable_counter(f"ironloop.{name}", observe(name), unit, text)
    for name, text in _SECONDS.items():
        meter.create_observable_counter(f"ironloop.{name}", observe(name), "s", text)
    for name, text in _GAUGES.items():
        meter.create_observable_up_down_counter(f"ironloop.{name}", observe(name), "1", text)
    for name, text in _HISTOGRAMS.items():
        meter.create_observable_gauge(f"ironloop.{name}", [_quantiles(known, name)], "s", text)


def _quantiles(known: list[_Reported], name: str) -> Observe:
    def observations(_options: CallbackOptions) -> Iterator[Observation]:
        for one in tuple(known):
            if (loop := one.open_loop()) is None:
                continue
            now: Histogram = getattr(loop.metrics(), name)
            since = now.since(one.before.get(name, Histogram()))
            one.before[name] = now
            if since.count:
                for quantile in QUANTILES:
                    yield Observation(since.quantile(quantile), {**one.attributes, "quantile": quantile})

    return observations
