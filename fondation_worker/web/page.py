"""The status page as one document, and what of it has changed: snapshot and history in, HTML out.

Script and style stand in the document, and the policy names their digests, so that nothing else is
run or loaded, whatever a text on the page holds.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fondation_worker.history import History
from fondation_worker.snapshot import Snapshot
from fondation_worker.web.phrases import foreign
from fondation_worker.web.plots import plots
from fondation_worker.web.sections import headline, jobs, slots, troubles
from fondation_worker.web.vitals import vitals

RELOAD = 10  # seconds after which a browser without scripts asks again


def _own(name: str) -> Markup:
    """Return a file of this package that is put into the document as it is."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 our own file


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


STYLE, SCRIPT = _own("page.css"), _own("page.js")
BUILD = _digest(STYLE + SCRIPT)[:12]  # tells an open page that its script is another's
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{_digest(STYLE)}'",
        f"script-src 'sha256-{_digest(SCRIPT)}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='4' fill='%232f5fd0'/%3E"
    "%3Cpath d='M4 11V8m4 3V4m4 7V6' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)
_DOCUMENT = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<noscript><meta http-equiv="refresh" content="{reload}"></noscript>
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body>
<header>
<p class="product">fondation-worker</p>
<p id="connection" role="status"><noscript>reloads every {reload} s</noscript></p>
<p id="news" role="status" class="hidden"></p>
</header>
<main>
{sections}
</main>
<footer>
<nav aria-label="For programs"><a href="health">health</a> <a href="readyz">readiness</a>
<a href="metrics">metrics</a></nav>
</footer>
<script type="module">{script}</script>
</body>
</html>
""")
_SECTION = Markup('<section id="{}">{}</section>')


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """The page at one moment."""

    instance: str
    title: str
    sections: Mapping[str, Markup]  # by id, in the page's order

    def document(self) -> Markup:
        """Return the whole page."""
        sections = (_SECTION.format(name, html) for name, html in self.sections.items())
        return _DOCUMENT.format(
            reload=RELOAD,
            title=self.title,
            icon=_ICON,
            style=STYLE,
            script=SCRIPT,
            sections=Markup("\n").join(sections),
        )

    def since(self, before: "Rendering | None") -> str | None:
        """Return what has changed since *before*, for the page's script; None: nothing."""
        told = before.sections if before else {}
        changed = {name: html for name, html in self.sections.items() if told.get(name) != html}
        if before and not changed and before.title == self.title:
            return None
        return json.dumps(
            {
                "build": BUILD,
                "instance": self.instance,
                "title": self.title,
                "sections": changed,
            }
        )


def rendered(now: Snapshot, history: History) -> Rendering:
    """Return the page of a worker that is as *now* says and has done what *history* holds."""
    return Rendering(
        instance=foreign(now.instance),
        title=f"{now.status} · {foreign(now.worker_id)}",
        sections={
            "headline": headline(now),
            "slots": slots(now),
            "vitals": vitals(now),
            "plots": plots(history.hours(now.now)),
            "errors": troubles(history.failures(), now.now),
            "jobs": jobs(history.recent(), now.now),
        },
    )
