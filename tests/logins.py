"""What a login of the Claude CLI leaves on disk, with placeholders for what is secret."""

import json
import time

FILE = ".credentials.json"  # in the CLI's configuration directory
TOKEN = "sk-ant-oat01-placeholder-of-a-login"


def login(good_for: float = 86400) -> str:
    """Return the content of FILE after `claude auth login`, good for so many seconds."""
    kept = {
        "accessToken": TOKEN,
        "refreshToken": "sk-ant-ort01-placeholder",
        "expiresAt": (time.time() + good_for) * 1000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    return json.dumps({"claudeAiOauth": kept})
