"""Takes code-analysis jobs from Convex, runs the Claude CLI over a repository, saves the text."""

__version__ = "0.1.0"
