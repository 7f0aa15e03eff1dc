"""A real TLS door in front of a server that has none, with certificates made for the test."""

import asyncio
import queue
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextmanager
def tls_door(context: ssl.SSLContext, connect: Callable[[], Awaitable[Stream]]) -> Iterator[int]:
    """Serve TLS on a free port of 127.0.0.1 and pass the bytes on to what ``connect`` opens; yields the port."""
    ports: queue.Queue[int] = queue.Queue()
    loop, closed = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(lambda *client: _pass(client, connect), "127.0.0.1", 0, ssl=context)
        ports.put(server.sockets[0].getsockname()[1])
        await closed.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels what still passes bytes on
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ports.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(closed.set)
        thread.join()


async def _pass(client: Stream, connect: Callable[[], Awaitable[Stream]]) -> None:
    server = await connect()
    with suppress(asyncio.CancelledError):  # the door closes
        await asyncio.gather(_pump(client[0], server[1]), _pump(server[0], client[1]))
    for _, writer in (client, server):
        writer.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()
