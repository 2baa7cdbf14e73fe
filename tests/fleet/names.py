"""A name server that answers as Docker's own does: a service's name with all of its containers."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

PORT = 53
HEADER = 12  # bytes
AN_ADDRESS, INTERNET = 1, 1  # the type A, and the class
TIME_TO_LIVE = 1  # seconds


class _Names(asyncio.DatagramProtocol):
    def __init__(self, service: str, addresses: Sequence[str]) -> None:
        self._service = service
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: tuple[str | object, int]) -> None:
        """Answer one question: with the addresses, or that there is no such name."""
        name, end = _name(data)
        kind = struct.unpack("!H", data[end : end + 2])[0]
        known = name.partition(".")[0] == self._service
        found = self._addresses if known and kind == AN_ADDRESS else ()
        flags = 0x8180 if known else 0x8183
        counts = struct.pack("!HHHH", 1, len(found), 0, 0)
        head = data[:2] + struct.pack("!H", flags) + counts
        # 0xC00C: the name that stands in the question.
        record = struct.pack("!HHHIH", 0xC00C, AN_ADDRESS, INTERNET, TIME_TO_LIVE, 4)
        answers = b"".join(record + socket.inet_aton(address) for address in found)
        self._transport.sendto(head + data[HEADER : end + 4] + answers, sender)


def _name(data: bytes) -> tuple[str, int]:
    """Return the name in a question, and where what follows it begins."""
    labels, place = [], HEADER
    while length := data[place]:
        labels.append(data[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels), place + 1


@asynccontextmanager
async def name_server(address: str, service: str, addresses: Sequence[str]) -> AsyncIterator[None]:
    """Answer at *address* that *service* is at these *addresses*, which may change meanwhile."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Names(service, addresses), local_addr=(address, PORT)
    )
    try:
        yield
    finally:
        transport.close()
