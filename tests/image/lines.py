"""The smaller commands of `docker`, and whole lines."""

import argparse
import re
import shlex
from collections.abc import Sequence

from tests.image.arguments import Parser, Refused

SHELL = set("$`|&;<>()")  # what a shell would heed and this does not


def words_of(line: str) -> list[str]:
    """Return the words after `docker` of a line for a shell; Refused for what only that does."""
    words = shlex.split(re.sub(r"\\\n|(?m:\s#\s.*$)", " ", line))
    if words[:1] != ["docker"] or any(SHELL & set(word) for word in words):
        raise Refused(line)
    return words[1:]


def names_of(command: str) -> Parser:
    """Return the parser of a command that takes names of containers."""
    parser = Parser(command)
    parser.add_argument("names", nargs="+")
    return parser


def timed_of(command: str) -> Parser:
    """Return the parser of such a command that stops them, and has a limit of time."""
    parser = names_of(command)
    parser.add_argument("-t", "--time", "--timeout", type=float)
    return parser


def exec_of(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after `docker exec`."""
    parser = Parser("exec")
    parser.flags("-i|--interactive", "-t|--tty")
    parser.lists("-e|--env")
    parser.add_argument("-u", "--user")
    parser.add_argument("-w", "--workdir")
    parser.add_argument("container")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(words)
