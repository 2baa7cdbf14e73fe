"""Completion in a shell: what Tab offers, by the script that the package installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("fondation-worker")
SLOW = ("rich", "aiohttp", "convex", "fondation_worker.operator", "fondation_worker.daemon")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds fondation-worker on its PATH."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words, env={"PATH": path, **environment}, capture_output=True, text=True, check=True
    )


def offered(*words: str) -> list[str]:
    """Return what bash would offer for the last of *words*, by the script that click makes."""
    script = run("fondation-worker", _FONDATION_WORKER_COMPLETE="bash_source").stdout
    ask = (
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fondation_worker_completion "$1";'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run("bash", "-c", f"{script}\n{ask}", "bash", *words).stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("he",), ["health"]),
        (("jobs", "re"), ["retry"]),
        (("jobs", "enqueue", "--pr"), ["--prompt", "--prompt-file", "--priority"]),
        (("jobs", "list", "--status", "co"), ["completed"]),
        (("run", "--lease"), ["--lease-time"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], found: list[str]) -> None:
    """Commands, their options, and values that are known."""
    assert offered("fondation-worker", *words) == found


@pytest.mark.parametrize("line", ["fondation-worker ", "fondation-worker jobs "])
def test_completion_loads_nothing_slow(line: str) -> None:
    """Somebody waits for it, at every press of Tab."""
    asked = {"_FONDATION_WORKER_COMPLETE": "bash_complete", "COMP_WORDS": line}
    asked |= {"COMP_CWORD": str(len(line.split())), "PYTHONPROFILEIMPORTTIME": "1"}
    ran = run("fondation-worker", **asked)
    assert "plain," in ran.stdout
    loaded = {text.rpartition("|")[2].strip() for text in ran.stderr.splitlines()}
    assert "click" in loaded
    assert loaded & set(SLOW) == set()


def test_zsh_is_given_a_function_of_its_own() -> None:
    """The first line is what zsh looks for in a file of its function path."""
    script = run("fondation-worker", _FONDATION_WORKER_COMPLETE="zsh_source").stdout
    assert script.startswith("#compdef fondation-worker\n")
