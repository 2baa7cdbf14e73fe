"""What the doctor found, as people see it and as programs do."""

from fondation_worker import __version__
from fondation_worker.cli import terminal
from fondation_worker.doctor.findings import Finding, Level, count
from fondation_worker.installation import Instance


def show(findings: list[Finding], instance: Instance | None, *, as_json: bool) -> None:
    """Print what was found in *instance*, for people or *as_json*."""
    errors, warnings = count(findings, Level.ERROR), count(findings, Level.WARNING)
    if as_json:
        terminal.show_json(
            {
                "version": __version__,
                "instance": instance.name if instance else None,
                "errors": errors,
                "warnings": warnings,
                "findings": [_document(finding) for finding in findings],
            }
        )
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        terminal.show_finding(finding.level, f"{finding.name:<{width}}", finding.words)
        if finding.advice:
            terminal.say(f"{'':{width + 11}}do: {finding.advice}")
    terminal.say(f"{errors} errors, {warnings} warnings, {len(findings)} looked at")


def _document(finding: Finding) -> dict[str, str | None]:
    return {
        "name": finding.name,
        "level": finding.level.value,
        "words": finding.words,
        "advice": finding.advice,
    }
