"""Where settings are written: INI files, the environment, flags; a later source rules.

Nothing here touches the file system but `read`, which reads the INI files and the files that
`*_FILE` settings name.
"""

import configparser
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fondation_worker import advice
from fondation_worker.redact import Redactor
from fondation_worker.settings import OPERATOR_KEY, SETTINGS, Setting

SECTION = "worker"
CREDENTIAL_KINDS = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
KEY_KIND, TOKEN_KIND = CREDENTIAL_KINDS
IN_A_FILE = (*SETTINGS, OPERATOR_KEY)  # one INI file serves the worker and its operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that settings are read from; each rules over the one before."""

    defaults: Mapping[str, str] = field(default_factory=dict)  # by NAME, as all but the files
    files: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    flags: Mapping[str, str] = field(default_factory=dict)


def read(settings: Iterable[Setting], sources: Sources, faults: list[str]) -> dict[str, Any]:
    """Return the values of *settings* by NAME, adding what is wrong with them to *faults*.

    Empty values count as not set.
    """
    texts: dict[str, str] = {}
    for said in _layers(sources, faults):
        known = {name: said[name] for name in _names(settings) if said.get(name)}
        _overrule(texts, known)
        texts |= known
    return dict(_parsed(settings, texts, faults))


def _layers(sources: Sources, faults: list[str]) -> Iterator[Mapping[str, str]]:
    yield sources.defaults
    for file in sources.files:
        yield _from_file(file, faults)
    yield sources.environ
    yield sources.flags


def _overrule(texts: dict[str, str], said: Mapping[str, str]) -> None:
    """Drop from *texts* what a later source has *said* in another form, NAME or NAME_FILE."""
    for setting in IN_A_FILE:
        forms = {setting.name, f"{setting.name}_FILE"}
        if setting.name in CREDENTIAL_KINDS:  # and so are the two kinds of credential
            forms = {form for kind in CREDENTIAL_KINDS for form in (kind, f"{kind}_FILE")}
        if setting.secret and forms & set(said):
            for form in forms:
                texts.pop(form, None)


def _names(settings: Iterable[Setting]) -> Iterator[str]:
    for setting in settings:
        yield setting.name
        if setting.secret:
            yield f"{setting.name}_FILE"


def _from_file(file: Path, faults: list[str]) -> dict[str, str]:
    """Return the values in *file* by NAME, adding what is wrong with it to *faults*."""
    parser = configparser.ConfigParser(
        interpolation=configparser.ExtendedInterpolation(), default_section="-"
    )
    try:
        parser.read_string(file.read_text(encoding="utf-8"), source=str(file))
    except configparser.Error as error:
        faults.append(f"{file}: cannot be read: {_where(error)}")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file}: cannot be read: {error}")
        return {}
    faults.extend(
        f"{file}: section [{section}] is unknown; settings stand in [{SECTION}]"
        for section in parser.sections()
        if section != SECTION
    )
    if not parser.has_section(SECTION):
        return {}
    known = set(_names(IN_A_FILE))
    texts = {}
    for key in parser.options(SECTION):
        if key.upper() not in known:
            faults.append(f"{file}: {key} is not a setting")
            continue
        try:
            if text := parser.get(SECTION, key):
                texts[key.upper()] = text
        except configparser.InterpolationError:
            faults.append(
                f"{file}: {key.upper()}: a $ is written $$, and ${{name}} is a value of this file"
            )
    return texts


def _where(error: configparser.Error) -> str:
    """Return what is wrong with a file and where; the parser's own words quote lines of it.

    One of them may hold a secret, and nobody knows it yet.
    """
    first: int | None = getattr(error, "lineno", None)
    lines = [first] if first else [number for number, _ in getattr(error, "errors", ())]
    match error:
        case configparser.MissingSectionHeaderError():
            words = f"settings stand below a line [{SECTION}]"
        case configparser.DuplicateOptionError() | configparser.DuplicateSectionError():
            words = "that stands there already"
        case _:
            words = "that is neither name = value, nor a comment"
    return f"line {', '.join(map(str, lines)) or '?'}: {words}"


def _parsed(
    settings: Iterable[Setting], texts: Mapping[str, str], faults: list[str]
) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of every one of *settings* that is set or has a default."""
    for setting in settings:
        text = _text_of(setting, texts, faults)
        if text is None:
            continue
        try:
            yield setting.name, setting.parse(text)
        except ValueError as error:
            shown = _secret_shown(setting, texts) if setting.secret else _shown(text)
            faults.append(f"{setting.name}: {shown} {error}; for example: {setting.example}")


def _secret_shown(setting: Setting, texts: Mapping[str, str]) -> str:
    file = texts.get(f"{setting.name}_FILE")
    return f"the content of {file}" if file else "the value"


def _shown(text: str) -> str:
    return repr(Redactor([])(text[:200]))


def _text_of(setting: Setting, texts: Mapping[str, str], faults: list[str]) -> str | None:
    """Return what was written for *setting*, from its own name, its _FILE or its default."""
    name_file = f"{setting.name}_FILE"
    if not setting.secret or name_file not in texts:
        return texts.get(setting.name, setting.default)
    if setting.name in texts:
        faults.append(f"{setting.name} and {name_file} are both set; keep one")
    try:
        return Path(texts[name_file]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = f"{error}{advice.to_read(error)}"
        faults.append(f"{name_file}: {texts[name_file]!r} cannot be read: {why}")
        return None


def missing(settings: Iterable[Setting], values: Mapping[str, Any], faults: list[str]) -> None:
    """Add those of *settings* that must be set and are not."""
    said = " ".join(faults)
    for setting in settings:
        required = "(required)" in setting.help
        if required and setting.name not in values and setting.name not in said:
            also = f" or {setting.name}_FILE" if setting.secret else ""
            faults.append(f"{setting.name}{also} is not set; {advice.to_set(setting)}")
