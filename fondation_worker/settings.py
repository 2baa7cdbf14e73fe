"""The table of settings: how each is written, read and explained.

The names and defaults are those that users of the earlier Node worker know. A reader of one value
raises ValueError with what is wrong with it, worded to follow the value.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h)?", re.IGNORECASE)
_SECONDS = {None: 0.001, "ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|kib|mib|gib|tib)", re.IGNORECASE)
_UNITS = ("", "kib", "mib", "gib", "tib")
LARGEST_SIZE = 1024**5  # bytes
LONGEST_SOCKET_PATH = 107  # bytes, of sun_path in unix(7)
WHOLE = 100  # per cent
LONGEST = 7 * 86400  # seconds
SHORTEST_INTERVAL = 0.5  # seconds
LONGEST_LEASE = 3600  # seconds
MOST_SLOTS = 64
HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: how a setting is written, read and explained."""

    name: str  # of the environment variable; the INI key and the flag are made of it
    parse: Callable[[str], Any]
    default: str | None  # as a user would write it; None: not set
    example: str
    help: str
    secret: bool = False  # read from NAME_FILE as well, and no flag: arguments are public
    restart: bool = False  # a change takes effect with a restart only

    @property
    def flag(self) -> str:
        """The command-line flag, without its dashes."""
        return self.name.lower().replace("_", "-")


def duration(text: str) -> float:
    """Return the seconds that *text* means: a bare number is milliseconds, `5s`, `5min` work too.

    Raises ValueError for anything else, zero included: no setting may be zero by accident.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a duration")
    seconds = float(match[1]) * _SECONDS[match[2].lower() if match[2] else None]
    if not 0 < seconds <= LONGEST:
        raise ValueError("must be more than 0 and at most 7 days")
    return seconds


def _duration_or_zero(text: str) -> float:
    return 0.0 if re.fullmatch(r"0+(ms|s|sec|m|min|h)?", text.strip()) else duration(text)


def _interval(text: str) -> float:
    seconds = duration(text)
    if seconds < SHORTEST_INTERVAL:
        raise ValueError("is less than 0.5 s; a bare number is milliseconds")
    return seconds


def _lease(text: str) -> float:
    seconds = duration(text)
    if not 1 <= seconds <= LONGEST_LEASE:
        raise ValueError("is not between 1 s and 1 h; Convex takes no other lease")
    return seconds


def _slots(text: str) -> int:
    count = int(text) if re.fullmatch(r"[0-9]{1,3}", text.strip()) else 0
    if not 1 <= count <= MOST_SLOTS:
        raise ValueError("is not a whole number from 1 to 64")
    return count


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return known[text.strip().lower()]
    except KeyError:
        raise ValueError("is neither 1 nor 0") from None


def _base_url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _is_host(parts.hostname):
        raise ValueError("is not an http(s) URL")
    if parts.port == 0:  # a port that is no number has raised ValueError by now
        raise ValueError("has a port that is none")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be without user information, query and fragment")
    return text.strip().rstrip("/")


def _is_host(name: str) -> bool:
    """Whether *name* could be a host's: an address, or labels of letters, digits and dashes."""
    labels = name.rstrip(".").split(".")
    return ":" in name or all(re.fullmatch(r"(?!-)[\w-]{1,63}(?<!-)", label) for label in labels)


def _deployment(text: str) -> str:
    url = _base_url(text)
    if urlsplit(url).path:
        raise ValueError("must be without a path: the official client replaces it")
    return url


def _functions(text: str) -> str:
    if not re.fullmatch(r"(?:[A-Za-z0-9_]+/)*", text):
        raise ValueError("is not a folder path that ends in /")
    return text


def label(text: str) -> str:
    """Return *text* if it can be a worker's label; raise ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("is not 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\x00" in text or path == Path("/"):
        raise ValueError("is not an absolute path to a directory of its own")
    return path


def _socket_path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or len(os.fsencode(text)) > LONGEST_SOCKET_PATH or "\x00" in text:
        raise ValueError("is not an absolute path of at most 107 bytes")
    return path


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = round(float(match[1]) * 1024 ** _UNITS.index((match[2] or "").lower())) if match else 0
    if not 0 < size <= LARGEST_SIZE:
        raise ValueError("is not a size from 1 byte to 1 PiB")
    return size


def _size_or_zero(text: str) -> int:
    return 0 if text.strip() == "0" else _size(text)


def _files(text: str) -> int:
    count = int(text) if re.fullmatch(r"[0-9]{1,9}", text.strip()) else 0
    if not count:
        raise ValueError("is not a whole number from 1 to 999999999")
    return count


def _percent(text: str) -> float:
    share = float(text) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text.strip()) else 0.0
    if not 0 < share <= WHOLE:
        raise ValueError("is not a number of per cent, above 0 and at most 100")
    return share


def _word(text: str) -> str:
    if not re.fullmatch(r"[^\s-][^\s]*", text):
        raise ValueError("is not one word")
    return text


def _secret(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{8,8192}", text.strip()):
        raise ValueError("is not 8 or more printable characters without blanks")
    return text.strip()


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return text.strip().lower()

    return parse


def _address(text: str) -> tuple[str, int] | None:
    if text.strip().lower() == "off":
        return None
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > HIGHEST_PORT:
        raise ValueError("is not HOST:PORT, nor off")
    return host, int(port)


SETTINGS = (
    Setting(name="CONVEX_URL", parse=_deployment, default=None, restart=True,
            example="https://happy-otter-123.convex.cloud", help="URL of the Convex deployment (required)"),
    Setting(name="WORKER_KEY", parse=_secret, default=None, secret=True,
            example="a key whose SHA-256 the deployment knows", help="this worker's key (required)"),
    Setting(name="CONVEX_FUNCTIONS", parse=_functions, default="", restart=True,
            example="fondation/", help="folder of the functions inside the deployment"),
    Setting(name="WORKER_ID", parse=label, default=None, restart=True,
            example="worker-1", help="label for people; made once and kept when not set"),
    Setting(name="POLL_INTERVAL", parse=_interval, default="5000",
            example="5s", help="time between two questions for work while push is down"),
    Setting(name="LEASE_TIME", parse=_lease, default="300000", restart=True,
            example="5min", help="how long a claim holds without a renewal"),
    Setting(name="HEARTBEAT_INTERVAL", parse=_interval, default="60000", restart=True,
            example="1min", help="time between two renewals; at most half of LEASE_TIME"),
    Setting(name="MAX_CONCURRENT_JOBS", parse=_slots, default="1",
            example="2", help="slots: how many jobs run at once"),
    Setting(name="JOB_TIMEOUT", parse=duration, default="60min",
            example="90min", help="time limit of one attempt; a job's own limit may be smaller"),
    Setting(name="CLONE_TIMEOUT", parse=duration, default="5min",
            example="10min", help="time limit of the clone"),
    Setting(name="STALL_TIME", parse=duration, default="10min",
            example="20min", help="how long a run may be silent while no tool runs"),
    Setting(name="TOOL_TIME", parse=duration, default="30min",
            example="10min", help="how long one tool of a run may take"),
    Setting(name="REPOSITORY_SIZE_LIMIT", parse=_size, default="2GiB",
            example="500MiB", help="a larger repository is not analysed"),
    Setting(name="REPOSITORY_FILES_LIMIT", parse=_files, default="200000",
            example="50000", help="one with more files is not analysed"),
    Setting(name="DISK_FLOOR", parse=_size_or_zero, default="2GiB",
            example="10GiB", help="no claim while less is free below TEMP_DIR or STATE_DIR; 0 for none"),
    Setting(name="MEMORY_PRESSURE_LIMIT", parse=_percent, default="40",
            example="20", help="no claim while tasks waited for memory this per cent of 10 s; 100 for never"),
    Setting(name="DRAIN_TIME", parse=_duration_or_zero, default="30s",
            example="10min", help="how long running jobs may go on after SIGTERM"),
    Setting(name="UPGRADE_DRAIN", parse=_duration_or_zero, default="70min",
            example="2h", help="how long running jobs may go on after an upgrade (SIGUSR1); then it is a stop"),
    Setting(name="TEMP_DIR", parse=_directory, default="/tmp/fondation", restart=True,
            example="/var/tmp/fondation", help="where clones live while their job runs"),
    Setting(name="STATE_DIR", parse=_directory, default=None, restart=True,
            example="/var/lib/fondation-worker", help="what outlives a restart; ~/.local/state/fondation-worker when not set"),
    Setting(name="CONTROL_SOCKET", parse=_socket_path, default=None, restart=True,
            example="/run/fondation-worker/1.sock", help="where pause and resume are answered; STATE_DIR/control.sock when not set"),
    Setting(name="ALLOW_LOCAL_REPOSITORIES", parse=_flag, default="0",
            example="1", help="whether file:/// repositories are fetched: laptops and tests only"),
    Setting(name="CLAUDE_CLI", parse=_word, default="claude",
            example="/usr/bin/claude", help="the Claude CLI: a path, or a name on PATH"),
    Setting(name="CLAUDE_MODEL", parse=_word, default=None,
            example="claude-sonnet-4-5", help="model for jobs that name none; the CLI's own choice when not set"),
    Setting(name="ANTHROPIC_BASE_URL", parse=_base_url, default=None,
            example="https://gateway.example.com", help="where the model's API is, when not at its usual place"),
    Setting(name="ANTHROPIC_API_KEY", parse=_secret, default=None, secret=True,
            example="an API key", help="the model's credential: this, or CLAUDE_CODE_OAUTH_TOKEN"),
    Setting(name="CLAUDE_CODE_OAUTH_TOKEN", parse=_secret, default=None, secret=True,
            example="what `claude setup-token` printed", help="the model's credential: this, or ANTHROPIC_API_KEY"),
    Setting(name="CLAUDE_CONFIG_DIR", parse=_directory, default=None,
            example="/home/worker/.claude", help="a login of the CLI, used where neither key nor token is set"),
    Setting(name="HEALTH_ADDRESS", parse=_address, default="127.0.0.1:8080", restart=True,
            example="127.0.0.1:8081", help="where health, metrics and the status page are; off for nowhere"),
    Setting(name="LOG_FORMAT", parse=_choice("text", "json"), default="text",
            example="json", help="how log lines look"),
    Setting(name="LOG_LEVEL", parse=_choice("debug", "info", "warning", "error"), default="info",
            example="debug", help="the least important lines to write"),
)  # fmt: skip

OPERATOR_KEY = Setting(
    name="OPERATOR_KEY",
    parse=_secret,
    default=None,
    secret=True,
    example="a key whose SHA-256 the deployment knows as an operator's",
    help="the operator's key (required)",
)


def _rows(*names: str) -> tuple[Setting, ...]:
    return tuple(setting for setting in SETTINGS if setting.name in names)


# What the operator's commands read: those about jobs, and those about a worker on this host.
OPERATOR_SETTINGS = (*_rows("CONVEX_URL", "CONVEX_FUNCTIONS"), OPERATOR_KEY)
CONTROL_SETTINGS = _rows("STATE_DIR", "CONTROL_SOCKET", "HEALTH_ADDRESS")
