"""`./dev backend` and `./dev worker`: the two halves, each in a terminal of its own.

They meet on port 3210 and share keys and data below `.demo/by-hand/`, which outlive them.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import watchfiles

from devtools.backend import REPOSITORY, local_backend
from devtools.demo import model
from devtools.stack import Keys, worker, worker_environment
from fondation_worker.config import CREDENTIAL_KINDS
from fondation_worker.settings import SETTINGS

HOME = REPOSITORY / ".demo" / "by-hand"
PORT = 3210
URL = f"http://127.0.0.1:{PORT}"
BIN = Path(sys.executable).parent  # where the installed program is


def main() -> None:
    """Run one half until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="./dev", description=__doc__)
    parser.add_argument("half", choices=("backend", "worker"))
    parser.add_argument("--faults", action="store_true", help="backend: allow the fault interface")
    arguments = parser.parse_args()
    half = backend(faults=arguments.faults) if arguments.half == "backend" else worker_by_hand()
    try:
        asyncio.run(half)
    except KeyboardInterrupt:
        sys.exit(130)


async def backend(*, faults: bool) -> None:
    """Run the local backend and say how to put a job in."""
    keys = kept_keys()
    async with local_backend(
        HOME / "convex", port=PORT, faults=faults, environ=keys.deployment
    ) as running:
        say(f"The local Convex backend answers on {running.url}; its log: {running.log}")
        say(f"""In another terminal, `./dev worker`; in a third, for instance:

export CONVEX_URL={running.url} OPERATOR_KEY_FILE={HOME}/operator.key STATE_DIR={HOME}/state
export PATH={BIN}:$PATH
fondation-worker jobs enqueue --clone-url file://{REPOSITORY} --prompt 'Write an overview.' --wait
fondation-worker jobs list
fondation-worker health

The worker's page is http://127.0.0.1:8080/, what Prometheus reads http://127.0.0.1:8080/metrics.
""")
        await asyncio.Event().wait()


async def worker_by_hand() -> None:
    """Run a worker beside the backend; start it anew whenever its code changes.

    Settings in the environment rule over the ones chosen here. Its credential, and the address of
    the scripted model, do not come from there.
    """
    keys = kept_keys()
    chosen = {
        setting.name: os.environ[setting.name]
        for setting in SETTINGS
        if setting.name in os.environ and setting.name not in CREDENTIAL_KINDS
    }
    async with model(None) as api:
        environment = worker_environment(URL, keys, HOME, api=api)
        environment |= {"HEALTH_ADDRESS": "127.0.0.1:8080", "PYTHONUNBUFFERED": "1"} | chosen
        while True:
            async with worker(environment, HOME / "worker.log", inherit=True):
                async for _ in watchfiles.awatch(REPOSITORY / "fondation_worker"):
                    say("The code changed: starting the worker anew.")
                    break


def kept_keys() -> Keys:
    """Return the keys in the files below HOME; made the first time, readable to this user only."""
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Keys.new()
    return Keys(
        worker=kept(HOME / "worker.key", new.worker),
        operator=kept(HOME / "operator.key", new.operator),
    )


def kept(file: Path, value: str) -> str:
    """Return what *file* holds, after writing *value* into it if it is not there."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(value, encoding="utf-8")
    return file.read_text(encoding="utf-8")


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
