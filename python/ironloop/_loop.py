"""`Loop`: the event loop, put together from native and inherited parts.

    LoopCore (Rust)              everything per callback, timer, event, task, packet
    asyncio.SelectorEventLoop    everything per loop or per connect call: argument checks, name resolution
                                 order, Happy Eyeballs, servers, exception handlers, as the running
                                 version of Python has them
    Loop (this file)             joins the two

Methods are found in that order, except for those defined here. The loop belongs to the thread that runs
it; other threads use `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import os
import selectors
import signal
import socket
import threading
from asyncio import base_events

from . import _busy_poll, _native, _resolve, _tls
from ._hints import Hints, hinting
from ._insight import Insight, loops
from ._sockets import PlainSockets
from ._static import TYPE_CHECKING, cast
from ._subprocess import ProcessTransport

if TYPE_CHECKING:
    import contextvars
    import ssl
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    from ._executor import ThreadPool


class _ReactorView:
    """What CPython's classes ask of `loop._selector`: who is watched, and to be closed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """The key of a watched descriptor (a number, or a file); KeyError if it is not watched."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        events = self._loop._watched(fd)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fd, events, None)

    def close(self) -> None:
        self._loop._close_core()


class Loop(_native.LoopCore, PlainSockets, Insight, Hints, asyncio.SelectorEventLoop):
    """A complete asyncio event loop; the reactor, timers, callbacks and streams are native."""

    # What CPython's classes keep on the loop.
    _csock: socket.socket
    _signal_handlers: dict[int, Any]
    _current_handle: Any
    _getaddrinfo_debug: Callable[..., Any]
    _check_running: Callable[[], None]
    _check_default_executor: Callable[[], None]
    _close_self_pipe: Callable[[], None]
    _make_self_pipe: Callable[[], None]
    _default_executor: ThreadPoolExecutor | None

    def __init__(self) -> None:
        """Make a loop. OSError when the process is out of descriptors."""
        self._resolver: ThreadPool | None = None
        self._pidfds: dict[int, ProcessTransport] = {}
        # What set_wakeup_fd() had before we took the place; None: we have not.
        self._wakeup_before: int | None = None
        self._prepare_insight()
        super().__init__(_ReactorView(self))  # type: ignore[arg-type]
        loops.add(self)
        self.busy_poll = _busy_poll.default()

    # What waits

    @property
    def _ready(self) -> collections.deque[asyncio.Handle]:
        """The handles that are ready to run: a copy, to look at."""
        return collections.deque(self._ready_handles())

    @_ready.setter
    def _ready(self, _queue: object) -> None:
        pass  # asyncio's `__init__` makes a queue that nothing uses here

    @property
    def _scheduled(self) -> list[asyncio.TimerHandle]:
        """The timers that are not due yet, the next one first: a copy, to look at."""
        return sorted(self._timer_handles())

    @_scheduled.setter
    def _scheduled(self, _heap: object) -> None:
        pass  # as for `_ready`

    # Life cycle

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._check_closed()
        # CPython 3.13.0 to 3.13.2 would clean up after a run that does not start, and end the one that goes on.
        self._check_running()
        if self._leave_parent():
            self._replace_self_pipe()
        self._start_insight()
        self._take_wakeup_fd()
        self._until_stop = True
        try:
            super().run_forever()
        finally:
            self._until_stop = False
            self._restore_wakeup_fd()

    def close(self) -> None:
        """Close the loop: nothing that is scheduled will run. RuntimeError while it is running."""
        super().close()
        # asyncio closes it by way of `_selector`, which may have been replaced.
        self._close_core()
        if self._watchdog is not None:
            self._watchdog.stop()
        while self._pidfds:
            pidfd, transport = self._pidfds.popitem()
            os.close(pidfd)
            transport.outlive()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.shutdown(wait=False)

    # Signals: while the loop runs in the main thread, a signal that any thread gets ends its sleep

    def _take_wakeup_fd(self) -> None:
        """Install our end of the self-pipe, unless somebody else needs the place and we have no handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        ours = self._csock.fileno()
        previous = signal.set_wakeup_fd(ours)
        if previous == ours:
            return
        if previous != -1 and not self._signal_handlers:
            # An interrupted poll has to do, as in asyncio.
            signal.set_wakeup_fd(previous)
        else:
            self._wakeup_before = previous

    def _restore_wakeup_fd(self) -> None:
        """Put back what was there. With handlers it stays ours between two runs, so that no signal is lost."""
        previous = self._wakeup_before
        if previous is None or self._signal_handlers or self.is_closed():
            return
        self._wakeup_before = None
        current = signal.set_wakeup_fd(previous)
        if current != self._csock.fileno():
            # Somebody has put one of their own there meanwhile.
            signal.set_wakeup_fd(current)

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Call callback(*args) in the loop when the process gets the signal. Main thread only."""
        try:
            with hinting:
                super().add_signal_handler(sig, callback, *args)
        finally:
            self._keep_wakeup_fd()

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of a signal. False: there was none."""
        removed = super().remove_signal_handler(sig)
        self._keep_wakeup_fd()
        return removed

    def _replace_self_pipe(self) -> None:
        """In a forked child: have a pipe of its own, so that neither process takes the signals of the other."""
        self._wakeup_before = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.set_wakeup_fd(-1)
            if previous != self._csock.fileno():
                signal.set_wakeup_fd(previous)
        self._close_self_pipe()
        self._make_self_pipe()

    def _keep_wakeup_fd(self) -> None:
        # CPython's code gives the descriptor up with the last handler; the run still needs it.
        if not self._signal_handlers and self.is_running():
            self._take_wakeup_fd()

    # Names

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _resolve.Addresses:
        """`socket.getaddrinfo` without blocking; literal addresses are answered at once."""
        # By way of asyncio's own module, as asyncio does: test suites replace it there.
        resolver = cast("Any", base_events).socket
        function = self._getaddrinfo_debug if self.get_debug() else resolver.getaddrinfo
        if _resolve.is_literal(host):
            return cast("_resolve.Addresses", function(host, port, family, type, proto, flags))
        self._name_lookups += 1
        pool = self._resolver_pool()
        found = await self.run_in_executor(pool, function, host, port, family, type, proto, flags)
        return cast("_resolve.Addresses", found)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """`socket.getnameinfo` without blocking."""
        self._name_lookups += 1
        return await self.run_in_executor(self._resolver_pool(), socket.getnameinfo, sockaddr, flags)

    def _resolver_pool(self) -> ThreadPool:
        # Not the default executor: slow jobs there must not delay a look-up.
        if self._resolver is None:
            from ._executor import ThreadPool  # takes a millisecond to import, and many programs need none

            self._check_closed()
            self._resolver = ThreadPool(_resolve.THREADS, thread_name_prefix="ironloop-resolver")
        return self._resolver

    # Threads

    def _default_pool(self) -> ThreadPoolExecutor:
        """The default executor, for `run_in_executor`: made when it is needed first."""
        self._check_default_executor()
        if self._default_executor is None:
            from ._executor import ThreadPool

            self._default_executor = ThreadPool(thread_name_prefix="asyncio")
        return self._default_executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads of the default executor, and let those of the resolver go."""
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.shutdown(wait=False)
        if self._default_executor is not None:
            from . import _executor

            if _executor.NEEDED:
                self._executor_shutdown_called = True
                await _executor.shut_down(self, self._default_executor, timeout)
                return
        # New in Python 3.12: before, there is none to give.
        await super().shutdown_default_executor(*([] if timeout is None else [timeout]))

    # Transports; a context is what CPython passes since 3.15, the one that they keep

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: contextvars.Context | None = None,
    ) -> _native.StreamTransport:
        self._ensure_fd_no_transport(sock)
        return _native.StreamTransport(self, sock, protocol, waiter, extra=extra, server=server, context=context)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> _native.DatagramTransport:
        return _native.DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> _native.ReadPipeTransport:
        return _native.ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> _native.WritePipeTransport:
        return _native.WritePipeTransport(self, pipe, protocol, waiter, extra)

    @functools.cached_property
    def _may_use_pidfds(self) -> bool:
        """Whether children are watched by pidfds; asked for when the first one is started."""
        return os.environ.get("IRONLOOP_PIDFD") != "0"

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ProcessTransport:
        waiter = self.create_future()
        transport = ProcessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        transport.watch()
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        transport.adopt_readers()
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[Any] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        tls = _native.TlsConnection(self, protocol, sslcontext, waiter, server_side, server_hostname, **options)
        _native.StreamTransport(self, rawsock, tls, extra=extra, server=server, context=context)
        return tls._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Upgrade a connection to TLS; returns the transport to use from then on.

        TypeError if `transport` cannot be upgraded or `sslcontext` is no `ssl.SSLContext`; `ssl.SSLError` and
        ConnectionError if the handshake fails, which closes the connection.
        """
        _tls.check_context(sslcontext)
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        tls = _native.TlsConnection(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            False,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        # Nothing may arrive before the connection knows its transport.
        transport.pause_reading()
        _tls.take_over(transport, protocol, tls, server_side)
        transport.set_protocol(tls)
        made = self.call_soon(tls.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            # The future has the exception, which has this frame: a cycle that would keep the transport.
            del waiter
            raise
        return tls._app_transport

    async def _sendfile_native(
        self, transport: _native.StreamTransport, file: Any, offset: int, count: int | None
    ) -> int:
        sent = transport._make_empty_waiter()  # RuntimeError: another one is under way
        was_reading = transport.is_reading()
        transport.pause_reading()
        try:
            await sent
            lost: asyncio.Future[Any] = transport._lend_descriptor()
            sending: asyncio.Future[Any] = self.create_task(
                self.sock_sendfile(transport._sock, file, offset, count, fallback=False)
            )
            try:
                await asyncio.wait([sending, lost], return_when=asyncio.FIRST_COMPLETED)
                if not sending.done():
                    lost.result()
                return cast(int, await sending)
            finally:
                try:
                    await _cancel_and_wait(sending)
                finally:
                    lost.cancel()
                    transport._take_descriptor_back()
                    # What came together with a cancellation, or with each other, is seen, too.
                    for ended in (sending, lost):
                        if not ended.cancelled():
                            ended.exception()
        finally:
            transport._reset_empty_waiter()
            if was_reading:
                transport.resume_reading()

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        *,
        context: contextvars.Context | None = None,
        **_kwargs: Any,
    ) -> None:
        _native.Listener(
            self,
            sock,
            protocol_factory,
            server,
            backlog,
            sslcontext,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            context=context,
        )


async def _cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end; a cancellation of the caller that comes meanwhile is raised only then."""
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interrupted = error
    try:
        if interrupted is not None:
            raise interrupted
    finally:
        interrupted = None  # its traceback has this frame


def new_event_loop() -> Loop:
    """A new event loop: a `loop_factory` for `asyncio.run` (3.12) and `asyncio.Runner` (3.11)."""
    return Loop()


__all__ = ["Loop", "new_event_loop"]
