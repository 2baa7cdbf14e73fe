"""How often the kernel killed for memory, as it tells."""

from pathlib import Path

import pytest

from fondation_worker.memory import kills


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (
            {
                "proc/self/cgroup": "12:memory:/old\n0::/system.slice/x\n",
                "sys/fs/cgroup/system.slice/x/memory.events": "oom 9\noom_kill 3\n",
                "proc/vmstat": "oom_kill 7\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/\n", "proc/vmstat": "nr_free 1\noom_kill 7\n"}, 7),
        ({"proc/vmstat": "nr_free_pages 1\n"}, 0),
        ({}, 0),
    ],
    ids=["cgroup", "host", "old kernel", "nothing"],
)
def test_kills_are_counted_as_near_as_can_be(
    tmp_path: Path, files: dict[str, str], count: int
) -> None:
    """This worker's own group rules over the whole host."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert kills(tmp_path) == count
