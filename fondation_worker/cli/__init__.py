"""The command line. Commands import what they need when they run, so that each starts fast."""

from fondation_worker.cli.main import main

__all__ = ["main"]
