"""Disks that are full, read-only or out of inodes, at each write of the worker: real small ones."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fondation_worker import claims, durable, entry
from fondation_worker.claims import Claims, Deployment
from fondation_worker.entry import Damaged, Entry
from fondation_worker.errors import DiskTrouble
from fondation_worker.host import kept_label
from fondation_worker.job import Token
from fondation_worker.life import lived
from fondation_worker.refused import KEPT_FOR, RefusedResults
from fondation_worker.result import Result, Usage, documents_from
from fondation_worker.workspace import workspace

TOKEN = Token(job_id="k57abc", lease_token="x" * 20, attempt=1)
HERE = Deployment(url="https://here.example", functions="")
RESULT = Result(
    documents=documents_from("# Läuft\n" + "x" * 100_000, fallback_title="x"),
    commit="0" * 40,
    usage=Usage(model="m", cost_usd=1.5, turns=3),
)
ENTRY = Entry(token=TOKEN, deployment=HERE, since=1.8e9, result=RESULT)
TROUBLES = ["full", "inodes", "read-only"]


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a small file system at *place*; skip the test where that is not allowed."""
    place.mkdir()
    mounting = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=256k,nr_inodes=40,mode=700",
        "tmpfs",
        str(place),
    ]
    if os.geteuid() or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root, and only where it may mount, can make a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def spoil(disk: Path, trouble: str) -> None:
    """Let every further write to *disk* fail."""
    match trouble:
        case "full":
            with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
        case "inodes":
            with suppress(OSError):
                for number in range(100):
                    (disk / f"filler-{number}").touch()
        case _:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def mend(disk: Path, size: str = "256k") -> None:
    """Undo `spoil`; the disk then has *size*, and as many inodes as it likes."""
    options = f"remount,rw,size={size},nr_inodes=0"
    subprocess.run(["mount", "-o", options, str(disk)], check=True)
    for filler in disk.glob("filler*"):
        filler.unlink()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_result_is_on_disk_whole_or_not_at_all(tmp_path: Path, trouble: str) -> None:
    """What was begun is removed; with room again it goes."""
    with small_disk(tmp_path / "disk") as disk:
        outbox = disk / "outbox"
        outbox.mkdir()
        spoil(disk, trouble)
        with pytest.raises(OSError, match=r"space|Read-only"):
            entry.write(outbox, ENTRY)
        assert list(outbox.iterdir()) == []
        mend(disk)
        place = entry.write(outbox, ENTRY)
        assert entry.read(place) == ENTRY


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_claim_and_a_workspace(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The claim's note is done without; a workspace is trouble of the disk, and leaves nothing."""
    with small_disk(tmp_path / "disk") as disk:
        async with lived(disk / "state", disk / "temp", "w-1") as life:
            noted = Claims(life, HERE)
            noted.remember(TOKEN)
            spoil(disk, trouble)
            other = Token(job_id="other", lease_token="y" * 20, attempt=1)
            noted.remember(other)
            assert "a crash would not be reported" in caplog.text
            if trouble != "full":  # tmpfs makes directories without taking room
                with pytest.raises(DiskTrouble):
                    async with workspace(life.work(), other):
                        pass
            mend(disk)
            assert [token for *_, token in claims.left_in(life.state())] == [TOKEN]
            assert [place.name for place in life.work().iterdir()] == ["lock"]
            noted.forget(TOKEN)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_life_on_a_bad_disk_begins_and_gets_its_directories_later(
    tmp_path: Path, trouble: str
) -> None:
    """It says so, and waits for the disk to be mended."""
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk, trouble)
        async with lived(disk / "state", disk / "temp", "w-1") as life:
            with pytest.raises(OSError, match=r"space|Read-only"):
                durable.put(life.state() / "x", b"x")
            mend(disk)
            assert life.state().is_dir()
            assert life.work().is_dir()
        assert list((disk / "temp").iterdir()) == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_label_that_cannot_be_kept_is_good_for_one_start(tmp_path: Path, trouble: str) -> None:
    """And no half of one is kept, which would stop every later start."""
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk, trouble)
        assert kept_label(disk).startswith("worker-")
        mend(disk)
        assert list(disk.iterdir()) == []
        assert kept_label(disk) == kept_label(disk)


def test_an_empty_label_is_made_anew(tmp_path: Path) -> None:
    """Earlier versions left one on a full disk."""
    (tmp_path / "worker-id").touch()
    assert kept_label(tmp_path) == kept_label(tmp_path)


@pytest.mark.parametrize("spoiled", ["manifest.json", "0.md"])
def test_a_damaged_entry_is_told_from_a_whole_one(tmp_path: Path, spoiled: str) -> None:
    """Every byte is checked: half a result is never handed in."""
    place = entry.write(tmp_path, ENTRY)
    content = (place / spoiled).read_bytes()
    for damaged in (content[:-2], b"", content.replace(b"xx", b"xy", 1)[::-1]):
        (place / spoiled).write_bytes(damaged)
        with pytest.raises(Damaged):
            entry.read(place)
    (place / spoiled).unlink()
    with pytest.raises(Damaged):
        entry.read(place)


def test_one_byte_that_changed_is_seen(tmp_path: Path) -> None:
    """Wherever it is: in a document, in its title, in the token."""
    place = entry.write(tmp_path, ENTRY)
    for file in sorted(place.iterdir()):
        content = file.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 200)):
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(Damaged):
                entry.read(place)
        file.write_bytes(content)
    assert entry.read(place) == ENTRY


def test_storage_ids_are_kept_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    """At worst a file is uploaded again."""
    entry.note_stored(tmp_path, 0, "kg1")
    entry.note_stored(tmp_path, 1, "kg2")
    entry.note_stored(tmp_path, 0, None)
    with (tmp_path / entry.STORED).open("ab") as file:
        file.write(b'[2,"kg\n[2,"kg\xff"]')
    entry.note_stored(tmp_path, 3, "kg4")
    assert entry.stored_in(tmp_path) == {1: "kg2", 3: "kg4"}


def test_a_stray_file_among_the_refused_is_kept_as_one(tmp_path: Path) -> None:
    """And is gone after the week, with the note of when it was first seen."""
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "stray").write_text("x")
    refused = RefusedResults(tmp_path)
    for now in (4e9, 4e9 + 30, 4e9 + 60):
        refused.purge(now)
        assert refused.count() == 1
    refused.purge(4e9 + KEPT_FOR + 1)
    assert list((tmp_path / "refused").iterdir()) == []


def test_what_was_refused_is_kept_a_week_by_convexs_clock(tmp_path: Path) -> None:
    """The worker's own clock may be anything, and is not asked."""
    place = entry.write(tmp_path / "outbox", ENTRY)
    refused = RefusedResults(tmp_path)
    refused.take(place, "the lease is lost: canceled")
    (kept,) = (tmp_path / "refused").iterdir()
    assert (kept / "reason").read_text() == "the lease is lost: canceled\n"
    begun = 4e9  # far from today
    for now in (begun, begun + KEPT_FOR - 1):
        refused.purge(now)
        assert refused.count() == 1
    refused.purge(begun + KEPT_FOR + 1)
    assert refused.count() == 0
