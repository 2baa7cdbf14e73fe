"""Stand-in until the real one is merged."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from fondation_worker import events

logger = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def web_server(
    address: tuple[str, int] | None,
    pages: Mapping[str, Handler],
    inherited: Sequence[socket.socket] = (),
) -> AsyncIterator[str | None]:
    """Answer while the body runs; give why that cannot be, or None."""
    if address is None and not inherited:
        yield None
        return
    application = web.Application()
    for path, handler in pages.items():
        application.router.add_get(path, handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        yield await _listen(runner, address, inherited)
    finally:
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, address: tuple[str, int] | None, inherited: Sequence[socket.socket]
) -> str | None:
    for one in inherited:
        await web.SockSite(runner, one).start()
    if not inherited and address:
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            words = f"{address[0]}:{address[1]}: {error.strerror}"
            extra = events.NO_PORT.extra
            logger.error("health: %s; set HEALTH_ADDRESS", words, extra=extra)  # noqa: TRY400
            return f"no health port: {words}"
    for host, port, *_ in runner.addresses:
        logger.info("health: http://%s:%d/health", host, port)
    return None
