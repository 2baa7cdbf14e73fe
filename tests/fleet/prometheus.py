"""A real Prometheus, Debian's, with a data directory and an address of its own."""

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

TOP = Path(__file__).parents[2]
PLACE = TOP / "packaging" / "prometheus"
RULES = PLACE / "fondation-worker.rules.yml"
EXAMPLE = PLACE / "scrape.yml"
LIMIT = 45.0  # seconds that a start, or an answer that is waited for, may take


class Prometheus:
    """What is asked of it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def get(self, path: str, **parameters: str) -> Any:
        """Return what its API answers; fail when that is an error."""
        url = f"{self.url}/api/v1/{path}"
        async with self._session.get(url, params=parameters) as answer:
            document = await answer.json()
        assert document["status"] == "success", (parameters, document)
        return document["data"]

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series that *query* has now."""
        data = await self.get("query", query=query)
        assert data["resultType"] == "vector", query
        result: list[dict[str, Any]] = data["result"]
        return result

    async def value(self, query: str) -> float | None:
        """Return the one figure that *query* has now; None when it has none."""
        result = await self.ask(query)
        assert len(result) <= 1, (query, result)
        return float(result[0]["value"][1]) if result else None

    async def until(self, query: str, value: float) -> None:
        """Wait until *query* has this *value*."""
        deadline = time.monotonic() + LIMIT
        while (found := await self.value(query)) != value:
            assert time.monotonic() < deadline, f"{query}: {found}, not {value}"
            await asyncio.sleep(0.2)

    async def rules(self) -> list[dict[str, Any]]:
        """Return the rules that it has loaded."""
        groups = (await self.get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + LIMIT
        while True:
            with suppress(aiohttp.ClientError):
                async with self._session.get(f"{self.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            assert time.monotonic() < deadline, "Prometheus did not start"
            await asyncio.sleep(0.05)


def example(targets: Mapping[str, str], *, interval: str = "1s") -> str:
    """Return the example configuration, as it is but for its *targets* and its pace."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for written, real in targets.items():
        assert written in text
        text = text.replace(written, real)
    return text.replace("_interval: 15s", f"_interval: {interval}")


def own_address() -> str:
    """Return an address that nobody else has: all of 127.0.0.0/8 is this host."""
    return ".".join(["127", *(str(1 + secrets.randbelow(250)) for _ in range(3))])


@asynccontextmanager
async def prometheus(
    home: Path, configuration: str, *, name_server: str | None = None
) -> AsyncIterator[Prometheus]:
    """Run it below *home* with *configuration* and our rules; stop it at the end.

    With a *name_server*, the address of one, it asks that and no other; this needs root.
    """
    home.mkdir()
    (home / "prometheus.yml").write_text(configuration, encoding="utf-8")
    (home / RULES.name).symlink_to(RULES)
    asking: tuple[str, ...] = ()
    if name_server is not None:
        resolver = home / "resolv.conf"
        resolver.write_text(f"nameserver {name_server}\n", encoding="utf-8")
        bound = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        asking = ("unshare", "--mount", "sh", "-c", bound, str(resolver))
    address = f"{own_address()}:9090"
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *asking,
            "prometheus",
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            running = Prometheus(session, f"http://{address}")
            await running.ready()
            yield running
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT):
            await process.wait()
