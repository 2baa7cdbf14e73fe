"""A real browser, for what only a browser can show."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = "/usr/bin/chromium"  # Debian's; ./dev installs it
QUIET = (  # it asks nobody for anything
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"),
    "--disable-lcd-text",  # letters without coloured edges: pictures are smaller
)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start a browser without a window; stop it at the end."""
    async with (
        async_playwright() as started,
        await started.chromium.launch(executable_path=CHROMIUM, args=QUIET) as launched,
    ):
        yield launched


def complaints(page: Page) -> list[str]:
    """Return a list to which everything is added that goes wrong on *page* from now on."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda said: found.append(said.text) if said.type == "error" else None)
    return found
