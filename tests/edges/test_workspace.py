"""The directory of an attempt: its own, and gone afterwards, whatever was put into it."""

import os
from pathlib import Path

import pytest

from fondation_worker.errors import DiskTrouble
from fondation_worker.job import Token
from fondation_worker.workspace import workspace

TOKEN = Token(job_id="k57abc", lease_token="x" * 20, attempt=1)


async def test_it_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    """Also when the work in it failed."""
    with pytest.raises(ValueError, match="work"):  # noqa: PT012 the block is the work
        (tmp_path / "work").mkdir()
        async with workspace(tmp_path / "work", TOKEN) as places:
            assert places.tree.parent.stat().st_mode & 0o777 == 0o700
            (places.tree / "file").write_text("x")
            raise ValueError("work")
    assert list((tmp_path / "work").iterdir()) == []


async def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    """A repository may be deeper than Python's stack and longer than a path may be."""
    here = os.open(".", os.O_RDONLY)
    try:
        async with workspace(tmp_path, TOKEN) as places:
            os.chdir(places.tree)
            for _ in range(3000):
                os.mkdir("deep")  # noqa: PTH102 relative to where we are
                os.chdir("deep")
            os.fchdir(here)
    finally:
        os.fchdir(here)
        os.close(here)
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_that_cannot_be_removed_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends nothing; here there is no `rm` to be found."""
    async with workspace(tmp_path, TOKEN):
        monkeypatch.setenv("PATH", "/nonexistent")
    assert "remove it by hand" in caplog.text


async def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    """The same name is taken: that is trouble of this host, not ours to remove."""
    other = tmp_path / f"{TOKEN.job_id}-1"
    other.mkdir()
    (other / "file").write_text("x")
    with pytest.raises(DiskTrouble):
        async with workspace(tmp_path, TOKEN):
            pass
    assert (other / "file").exists()


async def test_a_place_that_cannot_be_written_is_trouble_of_this_host(tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "work").write_text("x")
    with pytest.raises(DiskTrouble, match="could not be made"):
        async with workspace(tmp_path / "work", TOKEN):
            pass
