"""Looks at the model's credential: whether there is one, of which kind, and until when.

It is not tried: a try costs tokens. A worker learns of a refusal with its first job, waits, and
tries it by itself then.
"""

from collections.abc import Sequence
from pathlib import Path

from fondation_worker import advice
from fondation_worker.config import Credential
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.login import Unusable, read_login
from fondation_worker.sources import KEY_KIND, TOKEN_KIND
from fondation_worker.words import ago

CREDENTIAL = "credential"
_PREFIXES = {"sk-ant-oat": TOKEN_KIND, "sk-ant-api": KEY_KIND}
_KINDS = {KEY_KIND: "an API key", TOKEN_KIND: "a token of `claude setup-token`"}


def look_at_credential(credential: Credential | None, now: float) -> Sequence[Finding]:
    """Judge the credential; *now* is seconds since the epoch."""
    if credential is None:
        how = "`claude setup-token` prints a token for CLAUDE_CODE_OAUTH_TOKEN_FILE"
        return [error(CREDENTIAL, "there is none for the model", how)]
    if credential.kind not in _KINDS:
        return [judge_login(Path(credential.value), now)]
    looks_like = next(
        (kind for prefix, kind in _PREFIXES.items() if credential.value.startswith(prefix)), None
    )
    if looks_like not in {None, credential.kind}:
        words = f"{credential.kind} holds what looks like {_KINDS[looks_like or KEY_KIND]}"
        return [warning(CREDENTIAL, words, f"set {looks_like} instead")]
    return [ok(CREDENTIAL, f"{_KINDS[credential.kind]} ({credential.kind}); not tried: that costs")]


def judge_login(directory: Path, now: float) -> Finding:
    """Judge a login that the CLI keeps by itself in *directory*."""
    try:
        login = read_login(directory)
    except Unusable as trouble:
        return error(CREDENTIAL, trouble.words, trouble.how)
    where = f"the login in {directory}"
    until = "never" if login.until == float("inf") else ago(login.until * 1000, now * 1000)
    how = advice.to_log_in(directory)
    if login.until <= now:
        return error(CREDENTIAL, f"{where} has expired ({until})", how)
    if login.hindrance is None:
        return ok(CREDENTIAL, f"{where}, which the CLI renews by itself")
    return warning(CREDENTIAL, f"{where} expires {until}, and {login.hindrance}", how)
