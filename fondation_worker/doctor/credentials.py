"""Looks at the model's credential: whether there is one, of which kind, and until when.

It is not tried: a try costs tokens. A worker learns of a refusal with its first job, waits, and
tries it by itself then.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fondation_worker.config import Credential
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.words import ago

CREDENTIAL = "credential"
LOGIN_FILE = ".credentials.json"  # of the CLI, in its directory
_KEY, _TOKEN = "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"
_PREFIXES = {"sk-ant-oat": _TOKEN, "sk-ant-api": _KEY}
_KINDS = {_KEY: "an API key", _TOKEN: "a token of `claude setup-token`"}
_LOG_IN = "log the CLI in again as the worker's user (claude auth login), or set a token or key"


def look_at_credential(credential: Credential | None, now: float) -> Sequence[Finding]:
    """Judge the credential; *now* is milliseconds since the epoch."""
    if credential is None:
        advice = "`claude setup-token` prints a token for CLAUDE_CODE_OAUTH_TOKEN_FILE"
        return [error(CREDENTIAL, "there is none for the model", advice)]
    if credential.kind not in _KINDS:
        return [judge_login(Path(credential.value) / LOGIN_FILE, now)]
    looks_like = next(
        (kind for prefix, kind in _PREFIXES.items() if credential.value.startswith(prefix)), None
    )
    if looks_like not in {None, credential.kind}:
        words = f"{credential.kind} holds what looks like {_KINDS[looks_like or _KEY]}"
        return [warning(CREDENTIAL, words, f"set {looks_like} instead")]
    return [ok(CREDENTIAL, f"{_KINDS[credential.kind]} ({credential.kind}); not tried: that costs")]


def judge_login(file: Path, now: float) -> Finding:
    """Judge a login that the CLI keeps by itself in *file*."""
    try:
        login = json.loads(file.read_text(encoding="utf-8"))["claudeAiOauth"]
        expires, renewable = _expiry(login), bool(login.get("refreshToken"))
    except OSError as failure:
        return error(CREDENTIAL, f"the login {file}: {failure.strerror}", _LOG_IN)
    except (ValueError, KeyError, TypeError, AttributeError):
        return error(CREDENTIAL, f"{file} holds no login that can be read", _LOG_IN)
    if renewable and expires["refreshTokenExpiresAt"] > now:
        return ok(CREDENTIAL, f"a login of the CLI ({file}), which it renews by itself")
    until = expires["refreshTokenExpiresAt" if renewable else "expiresAt"]
    if until <= now:
        return error(CREDENTIAL, f"the login {file} has expired ({ago(until, now)})", _LOG_IN)
    words = f"the login {file} cannot be renewed, and expires {ago(until, now)}"
    return warning(CREDENTIAL, words, _LOG_IN)


def _expiry(login: dict[str, Any]) -> dict[str, float]:
    """Return until when its two tokens are good, in milliseconds; what is not said has no end."""
    names = ("expiresAt", "refreshTokenExpiresAt")
    return {name: float(login.get(name) or "inf") for name in names}
