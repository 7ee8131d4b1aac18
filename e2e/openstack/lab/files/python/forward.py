"""forward.py PID PORT...: makes ports of a network namespace reachable from outside.

It listens on 127.0.0.1:PORT where it was started and connects to 127.0.0.1:PORT
in the network namespace of process PID. A socket stays in the namespace in which
it was made; so it listens first, and moves over then.
"""
import asyncio
import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000


def listen(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', port))
    s.listen(128)
    s.setblocking(False)
    return s


def enter(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(os.open(f'/proc/{pid}/ns/net', os.O_RDONLY), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), 'setns')


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


def forwarder(port):
    async def forward(reader, writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection('127.0.0.1', port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        writer.close()
        inner_writer.close()
    return forward


async def serve(sockets):
    servers = [await asyncio.start_server(forwarder(port), sock=s) for port, s in sockets.items()]
    await asyncio.gather(*(s.serve_forever() for s in servers))


if __name__ == '__main__':
    listening = {int(port): listen(int(port)) for port in sys.argv[2:]}
    enter(sys.argv[1])
    asyncio.run(serve(listening))
