"""What an operator is told of a setting: the same facts for worker.conf and the manual page.

Everything is asked of the table of settings, so that what is told cannot go stale.
"""

from dataclasses import dataclass

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

# Defaults of a packaged instance, where they are others than those of the program.
PACKAGED = {
    "WORKER_ID": f"HOSTNAME-{NAME}",
    "STATE_DIR": f"/var/lib/fondation-worker/{NAME}",
    "TEMP_DIR": f"/var/cache/fondation-worker/{NAME}",
    "CONTROL_SOCKET": f"/run/fondation-worker/{NAME}.sock",
    "HEALTH_ADDRESS": f"127.0.0.{NAME}:8080",
    "CLAUDE_CONFIG_DIR": "/var/lib/fondation-worker/home/.claude",
}

# The file below /etc/fondation-worker/credentials that holds the secret.
CREDENTIALS = {
    "WORKER_KEY": "worker-key",
    "ANTHROPIC_API_KEY": "anthropic-api-key",
    "CLAUDE_CODE_OAUTH_TOKEN": "claude-oauth-token",
    "OPERATOR_KEY": "operator-key",
}

# Examples that fit a packaged host, where the table's own do not.
_EXAMPLES = {"TEMP_DIR": "/srv/fondation/clones", "STATE_DIR": "/srv/fondation/state"}

# What the package's units and instances add to a setting.
_ALSO = {
    "WORKER_ID": "Set it in N.conf: every instance has its own.",
    "TEMP_DIR": "The unit writes to another place only with ReadWritePaths= in a drop-in.",
    "STATE_DIR": "The unit writes to another place only with ReadWritePaths= in a drop-in.",
    "CONTROL_SOCKET": "Set it in N.conf, and ListenStream= of fondation-worker@N.socket with it.",
    "HEALTH_ADDRESS": "Set it in N.conf, and ListenStream= of fondation-worker@N.socket with it.",
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
