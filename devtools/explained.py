"""What an operator is told of a setting: the same facts for worker.conf and the manual page.

Everything is asked of the table of settings, so that what is told cannot go stale.
"""

from dataclasses import dataclass

from fondation_worker.installation import PORT, Instance
from fondation_worker.settings import OPERATOR_KEY, SETTINGS, Setting

NAME = "N"  # stands for an instance's name, in paths and commands
SHOWN = tuple(setting for setting in SETTINGS if not setting.secret)
SECRETS = (*(setting for setting in SETTINGS if setting.secret), OPERATOR_KEY)
_IMPOSSIBLE = " \0"  # no reader of a value takes it

# The heading, by the name of the first setting below it.
HEADINGS = {
    "CONVEX_URL": "The deployment",
    "MAX_CONCURRENT_JOBS": "Jobs and their limits",
    "DISK_FLOOR": "The host",
    "TEMP_DIR": "Places",
    "CLAUDE_CLI": "The Claude CLI",
    "HEALTH_ADDRESS": "Health and log",
}

# Defaults of a packaged instance. N, which only stands for a number, is none and has no address.
PACKAGED = Instance(NAME).defaults("HOSTNAME") | {"HEALTH_ADDRESS": f"127.0.0.{NAME}:{PORT}"}

# Examples that fit a packaged host, where the table's own do not.
_EXAMPLES = {
    "TEMP_DIR": "/srv/fondation/clones",
    "STATE_DIR": "/srv/fondation/state",
    "CLAUDE_CONFIG_DIR": "/var/lib/fondation-worker/home/.claude",
}

# What the package's units and instances add to a setting.
_WRITABLE = "The unit writes to another place only with ReadWritePaths= in a drop-in."
_LISTENS = "Set it in N.conf, and ListenStream= of fondation-worker@N.socket with it."
_ALSO = {
    "WORKER_ID": "Set it in N.conf: every instance has its own.",
    "TEMP_DIR": _WRITABLE,
    "STATE_DIR": _WRITABLE,
    "CLAUDE_CONFIG_DIR": _WRITABLE,
    "CONTROL_SOCKET": _LISTENS,
    "HEALTH_ADDRESS": _LISTENS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A setting in words; each text is whole sentences, or empty."""

    setting: Setting
    meaning: str
    takes: str
    default: str
    note: str
    example: str  # of a value

    @property
    def key(self) -> str:
        """The name in an INI file."""
        return self.setting.name.lower()

    @property
    def heading(self) -> str | None:
        """The heading above this setting, if it is the first of its group."""
        return HEADINGS.get(self.setting.name)


def explained(setting: Setting) -> Explained:
    """Return what there is to say of *setting* on a packaged host."""
    takes = _takes(setting)
    notes = ("A change needs a restart." if setting.restart else "", _ALSO.get(setting.name, ""))
    return Explained(
        setting=setting,
        meaning=_meaning(setting),
        takes=_sentence(takes),
        default=_default(setting, takes),
        note=" ".join(note for note in notes if note),
        example=_EXAMPLES.get(setting.name, setting.example),
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _meaning(setting: Setting) -> str:
    """Return the table's text as a sentence, without what a packaged default has overtaken."""
    clauses = setting.help.removesuffix(" (required)").split("; ")
    if setting.name in PACKAGED:
        clauses = [clause for clause in clauses if not clause.endswith("when not set")]
    return _sentence("; ".join(clauses))


def _takes(setting: Setting) -> str:
    """Return what *setting* takes, in the words with which its reader refuses all else."""
    try:
        setting.parse(_IMPOSSIBLE)
    except ValueError as error:
        words = str(error)
    else:
        raise AssertionError(f"{setting.name} takes anything")
    for refusal, said in (("is not ", ""), ("is none of ", "one of "), ("is neither ", "")):
        if words.startswith(refusal):
            words = said + words.removeprefix(refusal)
    return words.replace(", nor ", " or ").replace(" nor ", " or ")


def _default(setting: Setting, takes: str) -> str:
    """Return what holds where nothing is written, or that something must be."""
    if "(required)" in setting.help:
        return "Required."
    default = PACKAGED.get(setting.name) or setting.default
    if not default:
        return "Not set by default."
    return f"Default: {_with_unit(default) if takes == 'a duration' else default}."


def _with_unit(default: str) -> str:
    """Return *default* with a unit: a bare number of milliseconds is hard to read."""
    if not default.isdigit():
        return default
    seconds, rest = divmod(int(default), 1000)
    if rest:
        return f"{default}ms"
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}min"
