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
import os
import selectors
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from . import _native, _resolve, _tls
from ._subprocess import ProcessTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class _ReactorView:
    """What CPython's classes ask of `loop._selector`: who is watched, and to be closed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def get_key(self, fileobj: int) -> selectors.SelectorKey:
        """The key of a watched descriptor; KeyError if it is not watched."""
        events = self._loop._watched(fileobj)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fileobj, events, None)

    def close(self) -> None:
        self._loop._close_core()


class Loop(_native.LoopCore, asyncio.SelectorEventLoop):
    """A complete asyncio event loop; the reactor, timers, callbacks and streams are native."""

    # What CPython's classes keep on the loop.
    _csock: socket.socket
    _signal_handlers: dict[int, Any]
    _current_handle: Any
    _getaddrinfo_debug: Callable[..., Any]

    def __init__(self) -> None:
        """Make a loop. OSError when the process is out of descriptors."""
        self._resolver: ThreadPoolExecutor | None = None
        self._pidfds: set[int] = set()
        asyncio.SelectorEventLoop.__init__(self, _ReactorView(self))  # type: ignore[arg-type]

    # Life cycle

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._check_closed()
        previous = self._take_wakeup_fd()
        try:
            super().run_forever()
        finally:
            self._restore_wakeup_fd(previous)

    def close(self) -> None:
        """Close the loop: nothing that is scheduled will run. RuntimeError while it is running."""
        super().close()
        while self._pidfds:
            os.close(self._pidfds.pop())
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.shutdown(wait=False)

    # Signals: while the loop runs in the main thread, a signal that any thread gets ends its sleep

    def _take_wakeup_fd(self) -> int | None:
        """Install our end of the self-pipe; returns what was there, or None if it is to stay there."""
        if threading.current_thread() is not threading.main_thread():
            return None
        ours = self._csock.fileno()
        previous = signal.set_wakeup_fd(ours)
        if previous in (-1, ours) or self._signal_handlers:
            return previous
        # Somebody else needs it, and we have no handlers: an interrupted poll has to do, as in asyncio.
        signal.set_wakeup_fd(previous)
        return None

    def _restore_wakeup_fd(self, previous: int | None) -> None:
        # With handlers it stays ours between two runs, so that no signal is lost.
        if previous is not None and not self._signal_handlers and not self.is_closed():
            signal.set_wakeup_fd(previous if previous != self._csock.fileno() else -1)

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of a signal. False: there was none."""
        removed = super().remove_signal_handler(sig)
        if removed and not self._signal_handlers and self.is_running():
            # CPython's code has given up the wakeup descriptor; the run still needs it.
            self._take_wakeup_fd()
        return removed

    # Names

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """`socket.getaddrinfo` without blocking; literal addresses are answered at once."""
        function = self._getaddrinfo_debug if self.get_debug() else socket.getaddrinfo
        if _resolve.is_literal(host):
            return function(host, port, family, type, proto, flags)
        return await self.run_in_executor(self._resolver_pool(), function, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """`socket.getnameinfo` without blocking."""
        return await self.run_in_executor(self._resolver_pool(), socket.getnameinfo, sockaddr, flags)

    def _resolver_pool(self) -> ThreadPoolExecutor:
        # Not the default executor: slow jobs there must not delay a look-up.
        if self._resolver is None:
            self._check_closed()
            self._resolver = ThreadPoolExecutor(_resolve.THREADS, thread_name_prefix="ironloop-resolver")
        return self._resolver

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads of the default executor, and let those of the resolver go."""
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.shutdown(wait=False)
        await super().shutdown_default_executor(*args, **kwargs)

    # Transports

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **_kwargs: Any,
    ) -> _native.StreamTransport:
        self._ensure_fd_no_transport(sock)
        return _native.StreamTransport(self, sock, protocol, waiter, extra=extra, server=server)

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
        **options: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        options.pop("context", None)
        tls = _native.TlsConnection(self, protocol, sslcontext, waiter, server_side, server_hostname, **options)
        _native.StreamTransport(self, rawsock, tls, extra=extra, server=server)
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
    ) -> Any:
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
        was_reading = transport.is_reading()
        transport.pause_reading()
        await transport._make_empty_waiter()
        transport._lend_descriptor()
        try:
            return await self.sock_sendfile(transport._sock, file, offset, count, fallback=False)
        finally:
            transport._take_descriptor_back()
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
        )


def new_event_loop() -> Loop:
    """A new event loop: a `loop_factory` for `asyncio.run` (3.12) and `asyncio.Runner` (3.11)."""
    return Loop()


__all__ = ["Loop", "new_event_loop"]
