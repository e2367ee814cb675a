"""Out of descriptors: said once, no spinning, and everybody who waited is served."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_everybody_who_waited_is_served_after_the_limit_is_lifted():
    body = textwrap.dedent(
        """
        import asyncio, ironloop, os, resource, socket, sys, time
        reports = []
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: reports.append(context))
            served = []
            class Echo(asyncio.Protocol):
                def connection_made(self, transport):
                    self.transport = transport
                    served.append(transport)
                def data_received(self, data):
                    self.transport.write(data)
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            clients = []
            for _ in range(30):
                sock = socket.socket()
                sock.setblocking(False)
                clients.append(sock)
            used = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            for sock in clients:
                try:
                    sock.connect(address)
                except BlockingIOError:
                    pass
            started, used_before = time.monotonic(), time.process_time()
            await asyncio.sleep(0.4)
            share = (time.process_time() - used_before) / (time.monotonic() - started)
            assert share < 0.4, share
            print("served under the limit:", len(served))
            print("reports:", len(reports), reports[0]["message"], type(reports[0]["exception"]).__name__)
            assert reports[0]["exception"].errno == 24
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            while len(served) < 30:
                await asyncio.sleep(0.01)
            for number, sock in enumerate(clients):
                await loop.sock_sendall(sock, b"%d" % number)
                assert await loop.sock_recv(sock, 100) == b"%d" % number
                sock.close()
            print("served:", len(served))
            # One, and one for each second that a slow machine needed meanwhile.
            print("paused:", 1 <= loop.metrics().accept_pauses <= time.monotonic() - started + 1)
            server.close()
            await asyncio.sleep(0.01)
        ironloop.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "served under the limit: 0", done.stdout + done.stderr
    assert lines[1] == "reports: 1 socket.accept() out of system resource OSError"
    assert lines[2:] == ["served: 30", "paused: True"]


def test_a_closed_connection_lets_the_next_one_in_at_once():
    body = textwrap.dedent(
        """
        import asyncio, ironloop, os, resource, socket
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            served = []
            retries = []
            call_later = loop.call_later
            def without_retries(delay, callback, *args, **kwargs):
                if getattr(callback, "__name__", "") == "_resume_starved":
                    retries.append(delay)
                    return None
                return call_later(delay, callback, *args, **kwargs)
            loop.call_later = without_retries
            class Keep(asyncio.Protocol):
                def connection_made(self, transport):
                    served.append(transport)
            server = await loop.create_server(Keep, "127.0.0.1", 0)
            clients = [socket.socket() for _ in range(2)]
            for sock in clients:
                sock.setblocking(False)
            used = max(int(name) for name in os.listdir("/proc/self/fd"))
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            for sock in clients:
                try:
                    sock.connect(server.sockets[0].getsockname())
                except BlockingIOError:
                    pass
            while not served:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert len(served) == 1
            served[0].close()
            while len(served) < 2:
                await asyncio.sleep(0.001)
            print("without the retry" if retries else "never starved")
            for transport in served:
                transport.abort()
            for sock in clients:
                sock.close()
            server.close()
            await asyncio.sleep(0.01)
        ironloop.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == "without the retry", done.stdout + done.stderr
