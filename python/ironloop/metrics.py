"""What a loop counts about itself, as a snapshot, for Prometheus and for OpenTelemetry.

    loop.metrics()                            a `Metrics`
    ironloop.metrics.prometheus(loop)         the text of a scrape
    ironloop.metrics.asgi                     an ASGI application that answers with it
    ironloop.metrics.aiohttp                  an aiohttp handler that does
    ironloop.metrics.opentelemetry(loop)      instruments of OpenTelemetry that report it from now on

The loop counts always; a snapshot may be taken from any thread and costs some microseconds. Every number counts from
the loop's start, times are in seconds. Prometheus' text format is version 0.0.4.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ._executor import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from opentelemetry.metrics import Meter  # type: ignore[import-not-found, unused-ignore]

    from ._loop import Loop


class Bucket(NamedTuple):
    """Durations from `least` up to but not including `below`, in seconds, and how many values there are."""

    least: float
    below: float
    values: int


@dataclass(frozen=True)
class Histogram:
    """Durations, each known to within an eighth; only buckets that hold something are listed, in order."""

    buckets: tuple[Bucket, ...] = ()
    sum: float = 0.0
    """Of all values, in seconds."""
    max: float = 0.0
    """The largest value, in seconds."""

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(bucket.values for bucket in self.buckets)

    @property
    def mean(self) -> float:
        """In seconds; 0.0 if there is no value."""
        return self.sum / count if (count := self.count) else 0.0

    def quantile(self, q: float) -> float:
        """The value that the share `q` (0 to 1) of all values does not exceed, in seconds; 0.0 if there is none.

        ValueError if `q` is not between 0 and 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {q!r}")
        rest = q * self.count
        for bucket in self.buckets:
            rest -= bucket.values
            if rest <= 0:
                return min(bucket.below, self.max)
        return self.max

    def since(self, earlier: Histogram) -> Histogram:
        """What came after `earlier`, a snapshot of the same histogram; `max` is that of all time."""
        before = {bucket.least: bucket.values for bucket in earlier.buckets}
        counts = ((bucket, bucket.values - before.get(bucket.least, 0)) for bucket in self.buckets)
        later = tuple(bucket._replace(values=count) for bucket, count in counts if count)
        return Histogram(later, max(self.sum - earlier.sum, 0.0), self.max)


@dataclass(frozen=True)
class Metrics:
    """A snapshot of a loop's counters; see each field."""

    time: float
    """`loop.time()` when it was taken."""
    running: bool
    turns: int
    callbacks: int
    """Callbacks, timers and I/O events that were run."""
    io_events: int
    timers_fired: int
    timers_cancelled: int
    ready: int
    """Callbacks that wait for their turn now."""
    timers: int
    """Timers that are not due yet."""
    threadsafe_calls: int
    """Calls of `call_soon_threadsafe`, from whichever thread."""
    wakeups: int
    """How often another thread ended the loop's sleep."""
    connections_accepted: int
    connections_opened: int
    """Stream connections that began, accepted ones included."""
    connections_closed: int
    bytes_received: int
    """Through stream transports; of TLS the encrypted bytes."""
    bytes_sent: int
    tls_handshakes: int
    """That were completed."""
    accept_pauses: int
    """How often a listener stopped accepting for lack of descriptors or memory."""
    name_lookups: int
    """`getaddrinfo` and `getnameinfo` calls that needed a thread."""
    executor_waiting: int
    """Jobs of the default executor that wait for a thread."""
    executor_running: int
    """Jobs of the default executor that run; at the least, if it is a `ThreadPoolExecutor` before Python 3.12."""
    busy: float
    """Seconds that the loop ran callbacks, and looked for events without waiting."""
    idle: float
    """Seconds that it waited for events."""
    spin: float
    """Seconds that it looked for events again and again instead of waiting."""
    callback_time: Histogram
    """Duration of callbacks; short ones are timed in groups of at most 16 and count with the mean, a long one apart."""
    turn_time: Histogram
    """Duration of turns, without waiting; those between two polls count with the mean, a long one apart."""
    lag: Histogram
    """How late timers ran."""
    slow_callbacks: int
    """Callbacks that took longer than `loop.slow_callback_duration`, debug mode or not."""
    slowest_callbacks: tuple[tuple[str, float], ...]
    """The slowest of them by name, at most five, the slowest first, and the longest duration of each. Of a task it is
    the task's name."""

    @property
    def slowest(self) -> str | None:
        """The name of the slowest callback."""
        return self.slowest_callbacks[0][0] if self.slowest_callbacks else None

    @property
    def slowest_time(self) -> float:
        """Its duration; 0.0 if there is none."""
        return self.slowest_callbacks[0][1] if self.slowest_callbacks else 0.0

    @property
    def connections_open(self) -> int:
        """Stream connections now."""
        return self.connections_opened - self.connections_closed

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, for JSON."""
        return dataclasses.asdict(self)


def snapshot(loop: Loop) -> Metrics:
    """What `Loop.metrics()` returns."""
    counters: dict[str, Any] = loop._counters()
    for name in ("callback_time", "turn_time", "lag"):
        buckets, total, largest = counters[name]
        counters[name] = Histogram(tuple(map(Bucket._make, buckets)), total, largest)
    waiting, running = _executor_jobs(loop._default_executor)
    slow = loop._slow_callbacks
    return Metrics(
        time=loop.time(),
        name_lookups=loop._name_lookups,
        executor_waiting=waiting,
        executor_running=running,
        slow_callbacks=slow.count,
        slowest_callbacks=slow.slowest(),
        **counters,
    )


def _executor_jobs(executor: Any) -> tuple[int, int]:
    """Jobs of a thread pool that wait, and that run; zeros for executors of other kinds, which do not tell."""
    if isinstance(executor, ThreadPool):
        return executor._work_queue.load()
    try:
        waiting, threads, idle = executor._work_queue.qsize(), len(executor._threads), executor._idle_semaphore._value
    except AttributeError:
        return 0, 0
    # Before 3.12 a thread calls itself idle after each job, also if it goes on with another one.
    return waiting, threads if waiting else max(0, threads - idle)


_HELP = {
    "turns": "Turns of the loop.",
    "callbacks": "Callbacks, timers and I/O events that were run.",
    "io_events": "I/O events.",
    "timers_fired": "Timers that ran.",
    "timers_cancelled": "Timers that were cancelled.",
    "threadsafe_calls": "Calls of call_soon_threadsafe.",
    "wakeups": "Sleeps of the loop that other threads ended.",
    "connections_accepted": "Connections accepted.",
    "connections_opened": "Stream connections that began.",
    "connections_closed": "Stream connections that ended.",
    "bytes_received": "Bytes received by stream transports.",
    "bytes_sent": "Bytes sent by stream transports.",
    "tls_handshakes": "TLS handshakes completed.",
    "accept_pauses": "Times that a listener stopped for lack of descriptors.",
    "name_lookups": "Name look-ups that needed a thread.",
    "slow_callbacks": "Callbacks that took longer than slow_callback_duration.",
}
_GAUGES = {
    "ready": "Callbacks that wait for their turn.",
    "timers": "Timers that are not due yet.",
    "connections_open": "Stream connections now.",
    "executor_waiting": "Jobs of the default executor that wait for a thread.",
    "executor_running": "Jobs of the default executor that run.",
}
_SECONDS = {
    "busy": "Seconds spent running callbacks.",
    "idle": "Seconds spent waiting for events.",
    "spin": "Seconds spent looking for events before waiting.",
}
_HISTOGRAMS = {
    "callback_time": "Duration of callbacks.",
    "turn_time": "Duration of turns without waiting.",
    "lag": "How late timers ran.",
}
# Seconds: four to a factor of ten and a half, from a microsecond to sixteen seconds.
_BOUNDS = [1e-6 * 2**power for power in range(0, 25, 2)]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus(loop: Loop | None = None, labels: dict[str, str] | None = None) -> str:
    """The metrics of `loop` (the running one if None) in Prometheus' text format, each with `labels`.

    RuntimeError if `loop` is None and no loop runs; TypeError if it is no `ironloop.Loop`.
    """
    label = ",".join(f'{name}="{_escaped(value)}"' for name, value in (labels or {}).items())
    return "\n".join(_lines(_loop_or_running(loop).metrics(), label)) + "\n"


def _loop_or_running(loop: Loop | None) -> Loop:
    from ._loop import Loop

    found = asyncio.get_running_loop() if loop is None else loop
    if not isinstance(found, Loop):
        raise TypeError(f"an ironloop.Loop is needed, not {found!r}")
    return found


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _lines(metrics: Metrics, label: str) -> Iterator[str]:
    braces = f"{{{label}}}" if label else ""
    for name, text in _HELP.items():
        yield from _head(f"{name}_total", "counter", text)
        yield f"ironloop_{name}_total{braces} {getattr(metrics, name)}"
    for name, text in _SECONDS.items():
        yield from _head(f"{name}_seconds_total", "counter", text)
        yield f"ironloop_{name}_seconds_total{braces} {getattr(metrics, name):.9g}"
    for name, text in _GAUGES.items():
        yield from _head(name, "gauge", text)
        yield f"ironloop_{name}{braces} {getattr(metrics, name)}"
    for name, text in _HISTOGRAMS.items():
        full_name = f"{name.removesuffix('_time')}_seconds"
        yield from _head(full_name, "histogram", text)
        yield from _histogram_lines(f"ironloop_{full_name}", getattr(metrics, name), label)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP ironloop_{name} {text}"
    yield f"# TYPE ironloop_{name} {kind}"


def _histogram_lines(name: str, histogram: Histogram, label: str) -> Iterator[str]:
    braces = f"{{{label}}}" if label else ""
    separator = "," if label else ""
    for bound in _BOUNDS:
        # A bucket of ours that a bound divides counts as above it.
        count = sum(bucket.values for bucket in histogram.buckets if bucket.below <= bound)
        yield f'{name}_bucket{{{label}{separator}le="{bound:.9g}"}} {count}'
    yield f'{name}_bucket{{{label}{separator}le="+Inf"}} {histogram.count}'
    yield f"{name}_sum{braces} {histogram.sum:.9g}"
    yield f"{name}_count{braces} {histogram.count}"


async def asgi(scope: dict[str, Any], _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """An ASGI application that answers every HTTP request with the metrics of the loop that runs it."""
    if scope["type"] != "http":
        raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
    headers = [(b"content-type", CONTENT_TYPE.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": prometheus().encode()})


async def aiohttp(_request: Any) -> Any:
    """An aiohttp handler that answers with the metrics of its loop: `router.add_get("/metrics", aiohttp)`."""
    from aiohttp import web  # type: ignore[import-not-found, unused-ignore]

    return web.Response(body=prometheus().encode(), headers={"content-type": CONTENT_TYPE})


def opentelemetry(
    loop: Loop | None = None,
    meter: Meter | None = None,
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> None:
    """From now on, report the metrics of `loop` (the running one if None) by OpenTelemetry, each with `attributes`.

    Without `meter` by the meter "ironloop" of the global provider. The loop is left out once it is closed. RuntimeError
    if `loop` is None and no loop runs; TypeError if it is no `ironloop.Loop`; ValueError if another loop reports with
    the same attributes; ModuleNotFoundError without the extra `ironloop[otel]`.
    """
    from ._opentelemetry import report

    report(_loop_or_running(loop), meter, attributes or {})
