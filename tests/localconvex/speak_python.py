"""A client that does as it is told: the official Python clients, driven by lines of JSON.

`ConvexClient` blocks and holds the interpreter, so it runs in a process that can be ended.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from convex.http_client import ConvexHttpClient

from convex import ConvexClient, ConvexError, ConvexInt64

AWKWARD = {
    "integer": ConvexInt64(2**60),
    "bytes": b"\x00\xff",
    "infinite": float("inf"),
    "nested": [{"empty": {}}, None, True, "ü", -0.5],
}

subscription: Iterator[Any] = iter(())


def carry_out(client: Any, order: dict[str, Any]) -> Any:
    """Carry out one order and return its result."""
    global subscription  # noqa: PLW0603 - this process is one client
    match order["op"]:
        case "admin":
            return client.set_admin_auth(order["key"])
        case "awkward":
            return client.query("notes:echo", {"value": AWKWARD}) == AWKWARD
        case "subscribe":
            subscription = iter(client.subscribe(order["path"], order["args"]))
            return None
        case "next":
            return next(subscription)
        case kind:
            return getattr(client, kind)(order["path"], order["args"])


def main() -> None:
    """Serve orders until there are no more."""
    kind, url = sys.argv[1:]
    client = {"socket": ConvexClient, "http": ConvexHttpClient}[kind](url)
    for line in sys.stdin:
        try:
            answer = {"value": carry_out(client, json.loads(line))}
        except ConvexError as error:
            answer = {"error": "ConvexError", "message": str(error), "data": error.data}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
            answer = {"error": "Error", "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
