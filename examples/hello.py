"""Several things at once: a server, three clients and a clock, on whatever event loop runs this.

python examples/hello.py
python -m ironloop examples/hello.py
python -m ironloop compare examples/hello.py     # they differ in the first line
"""

import asyncio


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    await asyncio.sleep(0.1)
    writer.write(f"hello, {name}\n".encode())
    await writer.drain()
    writer.close()


async def ask(port: int, name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{name}\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def main() -> None:
    loop = asyncio.get_running_loop()
    print("running on", type(loop).__module__.split(".")[0])
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    start = loop.time()
    for answer in await asyncio.gather(*(ask(port, name) for name in ("Ada", "Grace", "Barbara"))):
        print(answer)
    print(f"three answers of 0.1 s each in {loop.time() - start:.1f} s")
    server.close()


asyncio.run(main())
