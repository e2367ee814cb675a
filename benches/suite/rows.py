"""What is measured: every row, by group."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Figure:
    """One number of a sample, as it is shown."""

    key: str
    unit: str
    more_is_better: bool = False
    label: str = ""  # what tells the figures of one row apart


RATE = Figure("rate", "/s", more_is_better=True)
MIB_RATE = Figure("rate", "MiB/s", more_is_better=True)
LATE = (Figure("p50_us", "µs", label="median"), Figure("p99_us", "µs", label="99 %"))
PERCENT = (Figure("percent", "% of a core"),)


@dataclass(frozen=True)
class Row:
    """One question.

    `program` is MODULE.FUNCTION of benches/programs, or a kind of TLS server. Work has a `count`, which takes a
    twentieth of a second or so. Servers have a `load`: what the load client does, with `{size}` and the like filled in.
    """

    name: str
    title: str
    group: str
    program: str
    count: int = 0
    load: str = ""
    figures: tuple[Figure, ...] = (RATE,)
    argument: float | str | None = None
    connections: int = 1
    size: int = 1024
    depth: int = 1
    reference: str = ""  # the server that is the limit, if any
    headline: bool = False  # in the quick mode and in the chart

    @property
    def network(self) -> bool:
        """Whether transports or sock_* take part, and with them the allocation of receive buffers."""
        return bool(self.load) or self.program == "processes.pipe_echo"


def _echo(
    name: str, title: str, program: str, connections: int, kib: int = 1, depth: int = 1, headline: bool = False
) -> Row:
    load = "load {address} {connections} {size} {depth}"
    many = "1 connection" if connections == 1 else f"{connections:,} connections"
    return Row(
        f"{name}_{kib}k_c{connections}",
        f"{title}, {kib} KiB, {many}",
        "echo",
        program,
        load=load,
        connections=connections,
        size=kib * 1024,
        depth=depth,
        reference="unix" if name == "unix" else "tcp",
        headline=headline,
    )


def _echoes() -> list[Row]:
    sizes = [(kib, connections) for kib in (1, 10, 100) for connections in (1, 10, 100)]
    headlines = ((1, 1), (1, 10), (100, 10))
    return [
        *(
            _echo("tcp", "TCP echo", "echoes.serve_protocol", c, kib, headline=(kib, c) in headlines)
            for kib, c in sizes
        ),
        *(
            _echo("buffered", "BufferedProtocol", "servers.serve_buffered", c, kib)
            for kib, c in ((1, 10), (1, 100), (100, 10))
        ),
        _echo("streams", "streams, readexactly", "echoes.serve_streams", 10, headline=True),
        _echo("streams", "streams, readexactly", "echoes.serve_streams", 10, 10),
        _echo("lines", "streams, readline", "servers.serve_lines", 10),
        _echo("sock", "sock_recv, sock_sendall", "servers.serve_sock", 10, headline=True),
        _echo("sock", "sock_recv, sock_sendall", "servers.serve_sock", 10, 100),
        _echo("pipelined", "16 pipelined", "servers.serve_pipelined", 1, depth=16),
        _echo("pipelined", "16 pipelined", "servers.serve_pipelined", 10, depth=16, headline=True),
        _echo("unix", "Unix echo", "servers.serve_unix", 10),
        _echo("unix", "Unix echo", "servers.serve_unix", 100),
    ]


def _datagrams(size: int, window: int, title: str) -> Row:
    return Row(
        f"udp_{size}_w{window}",
        f"UDP echo, {title}",
        "datagrams",
        "servers.serve_datagrams",
        load="load-udp {address} {connections} {size} {depth}",
        connections=10,
        size=size,
        depth=window,
        reference="udp",
    )


def _transfers() -> list[Row]:
    cost = Figure("cpu_s_per_gib", "CPU s/GiB", label="CPU")
    rates = (MIB_RATE, cost)
    return [
        Row(
            "send", "one stream sent", "streams of bytes", "servers.serve_source", load="drain {address}", figures=rates
        ),
        Row(
            "receive",
            "one stream received",
            "streams of bytes",
            "servers.serve_sink",
            load="fill {address}",
            figures=rates,
        ),
        Row(
            "accept",
            "connect, one byte, close; 1 at a time",
            "connections",
            "echoes.serve_protocol",
            load="churn {address} 1",
        ),
        Row(
            "accept_c10",
            "connect, one byte, close; 10 at a time",
            "connections",
            "echoes.serve_protocol",
            load="churn {address} 10",
        ),
    ]


def _http(framework: str) -> Row:
    load = "load-http {address} {connections}"
    name, title = f"http_{framework}", f"{framework}, hello world, 10 connections"
    return Row(
        name,
        title,
        "HTTP",
        f"http_servers.serve_{framework}",
        load=load,
        connections=10,
        reference="http",
        headline=True,
    )


def _tls(name: str, title: str, load: str, figure: Figure, port: int = 0, key: str = "rsa") -> Row:
    figures = (figure,)
    return Row(f"tls_{name}", f"TLS {title}", "TLS", "tls", 0, load, figures, argument=key, depth=port, reference="tls")


def _tls_rows() -> list[Row]:
    """The client sends where the server receives, and the other way round."""
    request, stream = Figure("cpu_us", "CPU µs"), Figure("cpu_s_per_gib", "CPU s/GiB")
    sizes = [(kib, connections) for kib in (1, 100) for connections in (10, 100)]
    keys = (("rsa", "RSA"), ("ec", "ECDSA"))
    return [
        *(
            _tls(f"{kib}k_c{c}", f"echo, {kib} KiB, {c} connections", f"echo {c} {kib * 1024} {{seconds}}", request)
            for kib, c in sizes
        ),
        _tls("receive", "one stream received", "send {bytes}", stream, port=1),
        _tls("send", "one stream sent", "receive {bytes}", stream, port=2),
        *(_tls(f"full_{key}", f"handshakes, {name}", "full {seconds}", request, key=key) for key, name in keys),
        *(
            _tls(f"resumed_{key}", f"resumed handshakes, {name}", "resumed {seconds}", request, key=key)
            for key, name in keys
        ),
    ]


def _work(name: str, title: str, group: str, program: str, count: int, headline: bool = False) -> Row:
    return Row(name, title, group, program, count=count, headline=headline)


def _works() -> list[Row]:
    mib = (MIB_RATE,)
    return [
        _work(
            "call_soon_chain",
            "call_soon, each schedules the next",
            "callbacks",
            "callbacks.call_soon_chain",
            50_000,
            True,
        ),
        _work("call_soon_burst", "call_soon, 1,000 at a time", "callbacks", "callbacks.call_soon_burst", 50_000),
        _work(
            "add_reader", "add_reader on both ends of a socket pair", "callbacks", "callbacks.add_reader", 10_000, True
        ),
        _work("sleep_zero", "sleep(0)", "tasks", "tasks.sleep_zero", 40_000, True),
        _work("create_task", "create_task and await", "tasks", "tasks.create_task", 20_000, True),
        _work("gather", "gather, 100 coroutines a call", "tasks", "tasks.gather", 20_000),
        _work("future_wake", "a future set by a callback, and awaited", "tasks", "tasks.future_wake", 20_000),
        _work("queue", "Queue, an item to and fro", "tasks", "tasks.queue", 20_000),
        _work("lock", "Lock handed over among 10 tasks", "tasks", "tasks.lock", 10_000),
        _work("timers_cancelled", "call_later and cancel", "timers", "timers.cancelled", 40_000, True),
        _work("wait_for", "wait_for that does not expire", "timers", "timers.wait_for", 10_000),
        _work("timers_fired", "call_later that fires", "timers", "timers.fired", 50_000),
        _work("threadsafe_busy", "call_soon_threadsafe, busy", "threads", "threads.threadsafe_busy", 50_000, True),
        _work(
            "threadsafe_waking",
            "call_soon_threadsafe, waking an idle loop",
            "threads",
            "threads.threadsafe_waking",
            2_000,
        ),
        _work("executor", "run_in_executor, one by one", "threads", "threads.executor", 2_000, True),
        _work("executor_100", "run_in_executor, 100 at once", "threads", "threads.executor_100_at_once", 2_000),
        _work("to_thread", "to_thread, one by one", "threads", "threads.to_thread", 2_000),
        _work("true_in_turn", "/bin/true, one by one", "processes", "processes.true_in_turn", 40, True),
        _work("true_20", "/bin/true, 20 at once", "processes", "processes.true_20_at_once", 40),
        _work("pipe_echo", "1 KiB there and back through two pipes", "processes", "processes.pipe_echo", 5_000),
        Row("cat_communicate", "cat, communicate()", "processes", "processes.cat_communicate", 16, figures=mib),
        Row("cat_streamed", "cat, pieces of 64 KiB", "processes", "processes.cat_streamed", 32, figures=mib),
    ]


def _precision() -> list[Row]:
    busy = "readiness seen by a loop busy with callbacks"
    sleeps = [
        Row(f"sleep_{ms}ms", f"lateness of sleep({ms / 1e3:g})", "precision", "timers.lateness", 0, "", LATE, ms / 1e3)
        for ms in (0.1, 1, 10)
    ]
    return [*sleeps, Row("seen_while_busy", busy, "precision", "resources.seen_while_busy", figures=LATE)]


def _memory() -> list[Row]:
    size, held = (Figure("bytes", "B"),), "memory of an idle connection"
    hold = "hold {address} {connections}"
    return [
        Row("memory_protocol", f"{held}, Protocol", "memory", "echoes.serve_protocol", 0, hold, size),
        Row("memory_streams", f"{held}, streams", "memory", "echoes.serve_streams", 0, hold, size, size=1),
        Row("memory_tls", f"{held}, TLS", "memory", "tls", 0, "idle {connections}", size, "rsa", reference="tls"),
        Row("memory_task", "memory of a waiting task", "memory", "resources.memory_of_tasks", figures=size),
        Row("memory_timer", "memory of a timer", "memory", "resources.memory_of_timers", figures=size),
    ]


def _resources() -> list[Row]:
    group, start_up = "resources", "import, new loop, one task, close"
    milliseconds = (Figure("ms", "ms"),)
    return [
        Row("start_up", start_up, group, "resources.start_up", figures=milliseconds, argument="loop"),
        Row("idle", "CPU use at rest", group, "resources.idle", figures=PERCENT),
        Row("events_100", "CPU use with 100 events a second", group, "resources.hundred_events", figures=PERCENT),
    ]


def _among(pending: int) -> Row:
    title, cost = f"a timer set and cancelled, {pending:,} pending", (Figure("ns", "CPU ns"),)
    return Row(f"timer_among_{pending}", title, "growth", "timers.among_pending", figures=cost, argument=pending)


def _growth() -> list[Row]:
    rows = [_echo("tcp", "TCP echo", "echoes.serve_protocol", connections) for connections in (10, 100, 1_000, 5_000)]
    figures = (RATE, Figure("p99_us", "µs", label="99 %"))
    return [
        replace(row, name=f"growth_c{row.connections}", group="growth", figures=figures, headline=False) for row in rows
    ]


def _all() -> dict[str, Row]:
    rows = [
        *_echoes(),
        _datagrams(64, 1, "64 bytes, 10 sockets"),
        _datagrams(1024, 1, "1 KiB, 10 sockets"),
        _datagrams(64, 16, "64 bytes, 10 sockets, 16 under way on each"),
        _datagrams(1024, 16, "1 KiB, 10 sockets, 16 under way on each"),
        *_transfers(),
        _http("aiohttp"),
        _http("uvicorn"),
        *_tls_rows(),
        *_works(),
        *_precision(),
        *_memory(),
        *_resources(),
        *_growth(),
        *(_among(pending) for pending in (10, 1_000, 1_000_000)),
    ]
    return {row.name: row for row in rows}


ROWS = _all()
GROUPS = tuple(dict.fromkeys(row.group for row in ROWS.values()))
MMAP = "+mmap"  # the same row with malloc's mmap threshold raised


def keys(names: list[str]) -> list[str]:
    """Rows as they are measured: those that receive over sockets twice."""
    return [key for name in names for key in ((name, name + MMAP) if ROWS[name].network else (name,))]


def row_of(key: str) -> Row:
    return ROWS[key.removesuffix(MMAP)]
