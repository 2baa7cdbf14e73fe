"""What the worker's processes use, read from the kernel."""

import os
import subprocess
import sys

from fondation_worker.family import FamilyBook

BUSY = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
GREEDY = "data = bytearray(64 << 20); print('ready', flush=True); input()"


def test_this_process_is_seen() -> None:
    """With what it holds."""
    family = FamilyBook().read()
    assert family.rss > family.anonymous > 0
    assert family.data > family.anonymous
    assert family.cpu > 0


def test_a_grandchild_counts() -> None:
    """As the Claude CLI is one, below its launcher."""
    before = FamilyBook().read()
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {GREEDY!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        now = FamilyBook().read()
        child.stdin.close()
    assert now.children == before.children + 2
    assert now.children_rss > before.children_rss + (64 << 20)


def test_what_an_ended_child_used_stays_counted() -> None:
    """Else the counter would go back, and Prometheus take that for a restart."""
    book = FamilyBook()
    before = book.read().cpu
    with subprocess.Popen([sys.executable, "-c", BUSY]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # nobody has reaped it yet
        while_it_waits = book.read().cpu
    assert while_it_waits >= before + 0.4
    assert book.read().cpu >= while_it_waits
