"""The documents' lines, run as they are written, in the order in which they are read."""

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.image.dock import Dock
from tests.logins import login
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOP = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/containers.md")
BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
URLS = ("https://YOUR-DEPLOYMENT.convex.cloud", "https://happy-otter-123.convex.cloud")


def blocks(document: str) -> list[list[str]]:
    """Return the blocks of a document in which containers are run, each as its lines."""
    text = (TOP / document).read_text(encoding="utf-8")
    found = [block.replace("\\\n", " ").splitlines() for block in BLOCK.findall(text)]
    return [
        [" ".join(line.split()) for line in block if line.strip()]
        for block in found
        if any(line.startswith(("docker run", "docker build")) for line in block)
    ]


class Reader:
    """Somebody who types what a document says."""

    def __init__(self, dock: Dock, home: Path) -> None:
        self.dock = dock
        self._home = home
        self.started: list[str] = []

    async def types(self, block: list[str]) -> None:
        """Type the lines of a block."""
        lines = iter(block)
        for line in lines:
            if line.startswith("docker run -it"):
                await self._logs_in(line, next(lines))
            elif line.startswith("docker run -d"):
                await self._starts(line)
            elif line.startswith("docker"):
                await self.dock.docker.line(line)
            elif line.startswith("curl"):
                await self._looks(line)
            elif line.startswith("sudo install"):
                await self.shell(line.removeprefix("sudo ").replace("/srv/", f"{self.dock.srv}/"))
            else:
                raise AssertionError(f"what to do about: {line}")

    async def _logs_in(self, line: str, then: str) -> None:
        """Log in at a terminal, as far as one comes without a browser."""
        async with self.dock.docker.at_terminal(*shlex.split(line)[1:]) as session:
            await session.terminal.shows("$ ")
            session.terminal.types(f"{then}\n")
            await session.terminal.shows("/oauth/authorize", limit=30)
            session.terminal.types("\x03")
            await until(lambda: session.terminal.shown.endswith("$ "), what="for the shell")
            session.terminal.types("exit\n")
            await session.ended()
        # The rest takes an account.
        self.dock.give("claude-creds/.credentials.json", login(), mode=0o600)

    async def _starts(self, line: str) -> None:
        """Run a worker, with what leads it to this test's own Convex and model."""
        for url in URLS:
            line = line.replace(url, self.dock.convex)
        words = shlex.split(line)
        convex = f"--env=CONVEX_URL={self.dock.convex}"
        around = [option for option in self.dock.around() if option != convex]
        self.started.append(words[words.index("--name") + 1])
        await self.dock.docker("run", *around, *words[2:])
        await self.dock.becomes_ready(self.started[-1])

    async def _looks(self, line: str) -> None:
        """Ask with curl, and get something to read."""
        said = await self.shell(f"{line} --silent --show-error --fail")
        assert json.loads(said)

    async def shell(self, line: str) -> str:
        """Run a line of the host's own programs; return what it printed."""
        process = await asyncio.create_subprocess_exec(
            *shlex.split(line), cwd=self._home, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, line
        return said.decode()

    async def ends(self) -> None:
        """Remove what was started."""
        await self.dock.remove(*self.started)
        self.started.clear()


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_what_a_document_says_works_as_it_is_written(
    dock: Dock, tmp_path: Path, document: str
) -> None:
    """From the build to a job that is done, with nothing left out and nothing put right."""
    (tmp_path / "worker.key").write_text(dock.outside.keys.worker, encoding="utf-8")
    reader = Reader(dock, tmp_path)
    found = blocks(document)
    assert sum(line.startswith("docker run -d") for block in found for line in block) >= 1
    dock.give("worker-key", dock.outside.keys.worker)
    for number, block in enumerate(found):
        await reader.types(block)
        if reader.started:
            prompt = f"{document} {number}"
            await dock.outside.completed(await dock.outside.enqueue(prompt))
            assert dock.said(reader.started[-1])
            await reader.ends()
    await dock.docker("volume", "rm", "fondation-state")


async def test_a_second_worker_is_the_same_line_with_another_name_and_port(
    dock: Dock, tmp_path: Path
) -> None:
    """Both answer where they were told to, and each by its own name."""
    dock.log_in("claude-creds")
    dock.give("worker-key", dock.outside.keys.worker)
    reader = Reader(dock, tmp_path)
    (line,) = (
        line for block in blocks("README.md") for line in block if line.startswith("docker run -d")
    )
    await reader.types([line])
    await reader.types([line.replace("worker-1", "worker-2").replace("8080:8080", "8081:8080")])
    for name, port in (("worker-1", 8080), ("worker-2", 8081)):
        said = await reader.shell(f"curl --silent --fail http://localhost:{port}/health")
        assert json.loads(said)["workerId"] == name
    await reader.ends()
    await dock.docker("volume", "rm", "fondation-state")


async def test_the_production_line_without_a_key_says_what_to_add(dock: Dock) -> None:
    """As older documents have it: a URL and a login. What it says to add is all that is missing."""
    creds = dock.log_in("claude-creds")
    line = (
        "docker run -d --name bare --restart unless-stopped -p 8080:8080"
        f" -v {creds}:/home/worker/.claude:ro -e CONVEX_URL={dock.convex} fondation-worker"
    )
    await dock.docker.line(line)
    said = await dock.stands_by("bare", "-v /srv/worker-key:/run/secrets/worker-key:ro")
    assert "CONVEX_URL" not in said
    assert "login" not in said
    assert dock.docker.container("bare").restarts == 0
    await dock.remove("bare")
    dock.give("worker-key", dock.outside.keys.worker)
    (added,) = re.findall(r"add (-v \S+),", said)
    around = [option for option in dock.around() if "CONVEX_URL" not in option]
    words = shlex.split(line.replace("docker run", f"docker run {added}"))
    await dock.docker("run", *around, *words[2:])
    await dock.becomes_ready("bare")
    await dock.outside.completed(await dock.outside.enqueue("with what was to be added"))
    await dock.remove("bare")


async def test_a_first_login_without_a_directory_says_how_to_make_one(dock: Dock) -> None:
    """Docker makes it for root then; the CLI would only fail once its user is back."""
    line = "run -it -v /srv/no-creds:/home/worker/.claude fondation-worker /bin/sh"
    async with dock.docker.at_terminal(*line.split()) as session:
        session.terminal.types("claude login; echo status $?\n")
        await session.terminal.shows("status 73")
        assert "sudo chown -R 1001:1001 /srv/claude-creds" in session.terminal.shown
        session.terminal.types("exit\n")
        await session.ended()
