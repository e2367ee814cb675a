"""Other schedulers beside an installed policy, which must not disturb them, and Twisted upon the loop."""

from __future__ import annotations

import pytest

from tests.peers.programs import package

GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, socket, time

def echo(listener):
    connection, _ = listener.accept()
    while data := connection.recv(100):
        connection.sendall(data.upper())
    connection.close()

listener = socket.create_server(("127.0.0.1", 0))
serving = gevent.spawn(echo, listener)
client = socket.create_connection(listener.getsockname())
client.sendall(b"hello")
print(client.recv(100))
client.close()
serving.join()
print([job.value for job in gevent.joinall([gevent.spawn(lambda n: (time.sleep(0.01), n)[1], n) for n in range(5)])])
"""

CURIO = """
import curio

async def child(number):
    await curio.sleep(0.01)
    return number * 2

async def main():
    tasks = [await curio.spawn(child, number) for number in range(10)]
    print([await task.join() for task in tasks])
    first, second = curio.socket.socketpair()
    await first.sendall(b"hello")
    print(await second.recv(10))

curio.run(main)
"""

TRIO = """
import trio

async def main():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
        await stream.send_all(b"hello")
        print(await stream.receive_some(10))
        nursery.cancel_scope.cancel()

async def echo(stream):
    async for data in stream:
        await stream.send_all(data.upper())

import trio.testing
trio.run(main)
"""

REQUESTS = """
import http.server, threading, requests

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(requests.get(f"http://127.0.0.1:{server.server_port}/", timeout=30).text)
server.shutdown()
server.server_close()
"""

THEN_ASYNCIO = """
import asyncio

async def asynchronous():
    await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    print(await reader.read())
    writer.close()
    await writer.wait_closed()

async def both():
    global server
    async def greet(_reader, writer):
        writer.write(b"from asyncio")
        writer.close()
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    await asynchronous()
    server.close()

asyncio.run(both())
"""


@pytest.mark.parametrize(
    ("name", "program", "printed"),
    [
        ("gevent", GEVENT, "b'HELLO'\n[0, 1, 2, 3, 4]\n"),
        ("curio", CURIO + THEN_ASYNCIO, f"{[2 * n for n in range(10)]}\nb'hello'\nb'from asyncio'\n"),
        ("trio", TRIO + THEN_ASYNCIO, "b'HELLO'\nb'from asyncio'\n"),
        ("requests", REQUESTS + THEN_ASYNCIO, "hello\nb'from asyncio'\n"),
    ],
    ids=["gevent", "curio", "trio", "requests"],
)
def test_another_scheduler_is_not_disturbed(program_output, name, program, printed):
    package(name)
    assert program_output(program) == printed


TWISTED = """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
from twisted.internet import asyncioreactor
asyncioreactor.install(loop)
from twisted.internet import defer, endpoints, protocol, reactor, task, threads

class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())

class Asking(protocol.Protocol):
    def __init__(self):
        self.answer = defer.Deferred()
        self.received = b""
    def connectionMade(self):
        self.transport.write(b"x" * 100_000)
    def dataReceived(self, data):
        self.received += data
        if len(self.received) == 100_000:
            self.transport.loseConnection()
    def connectionLost(self, reason):
        self.answer.callback(self.received)

async def main():
    listener = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await listener.listen(protocol.Factory.forProtocol(Echo))
    asking = [Asking() for _ in range(20)]
    for one in asking:
        endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoints.connectProtocol(endpoint, one)
    answers = await defer.gatherResults([one.answer for one in asking])
    print(all(answer == b"X" * 100_000 for answer in answers))
    print(await threads.deferToThread(lambda: "from a thread"))
    print(await task.deferLater(reactor, 0.01, lambda: "later"))
    print(await defer.Deferred.fromFuture(asyncio.ensure_future(asyncio.sleep(0, "from asyncio"))))
    await port.stopListening()

def ended(result):
    reactor.stop()
    return result

defer.ensureDeferred(main()).addBoth(ended).addErrback(lambda failure: failure.printTraceback())
reactor.run()
print(reactor._asyncioEventloop is loop)
"""


def test_twisted_on_its_asyncio_reactor(program_output):
    package("twisted")
    assert program_output(TWISTED) == "True\nfrom a thread\nlater\nfrom asyncio\nTrue\n"


IPYTHON = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("import asyncio")
shell.run_cell("first = await asyncio.sleep(0, 'awaited')")
shell.run_cell("print(first, type(asyncio.get_running_loop()).__module__.split('.')[0])")
shell.run_cell("print(await asyncio.gather(*(asyncio.sleep(0.001, n) for n in range(5))))")
shell.run_cell("print(type(asyncio.get_running_loop()).__name__, await asyncio.sleep(0, 1))")
"""


def test_ipython_awaits_in_cells(program_output, loop_name):
    package("IPython")
    kind = {"asyncio": "_UnixSelectorEventLoop", "ironloop": "Loop"}[loop_name]
    printed = program_output(IPYTHON).splitlines()
    assert printed[-2:] == ["[0, 1, 2, 3, 4]", f"{kind} 1"]
