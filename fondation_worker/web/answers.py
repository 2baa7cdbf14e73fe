"""What every answer to a stranger has: headers that close a browser's doors, and JSON for a no."""

import json
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus

from aiohttp import web

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'"


def close_doors(headers: MutableMapping[str, str]) -> None:
    """Give an answer's *headers* what keeps other sites' pages out; a page may set its own policy.

    What this program is made of is nobody's business.
    """
    headers.update(_ALWAYS)
    headers.setdefault("Content-Security-Policy", _POLICY)
    headers.pop("Server", None)


def refusal(
    status: int, words: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Return the answer to what is not done, with the reason in *words*."""
    return web.json_response({"error": words}, status=status, headers=headers)


def refusal_in_bytes(status: int, words: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the same for a connection without a request, which it ends."""
    body = json.dumps({"error": words}).encode()
    head = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **(headers or {}),
    }
    close_doors(head)
    status_line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    lines = (status_line, *(f"{name}: {value}" for name, value in head.items()), "", "")
    return "\r\n".join(lines).encode() + body
