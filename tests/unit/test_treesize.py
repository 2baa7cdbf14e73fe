"""A commit's list, judged as it comes."""

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from fondation_worker.errors import InvalidJob, TooLarge
from fondation_worker.treesize import LONGEST_NAME, MOST_DEPTH, Limits, TreeJudge

PLENTY = Limits(size=10**9, files=10**6)
OBJECT = b"0123456789012345678901234567890123456789"


def entry(path: bytes, size: int | None = 1) -> bytes:
    """Return a line as `git ls-tree -r -t -l -z` prints it."""
    kind = b"040000 tree" if size is None else b"100644 blob"
    shown = b"-" if size is None else str(size).encode()
    return kind + b" " + OBJECT + b" " + shown.rjust(7) + b"\t" + path + b"\0"


def judged(entries: Iterable[bytes], limits: Limits = PLENTY, *, cut: int = 0) -> TreeJudge:
    """Feed the entries in chunks of *cut* bytes, or in one."""
    judge, listed = TreeJudge(limits), b"".join(entries)
    for start in range(0, len(listed), cut or len(listed) or 1):
        judge.feed(listed[start : start + (cut or len(listed))])
    return judge


names = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {0, ord("/")} & set(name) and name.lower() not in {b".", b"..", b".git"}
)


@given(st.dictionaries(names, st.integers(0, 10**6), max_size=20), st.integers(1, 300))
def test_sizes_and_entries_are_summed_however_the_list_is_cut(
    files: dict[bytes, int], cut: int
) -> None:
    """Names may be any bytes."""
    judge = judged((entry(name, size) for name, size in files.items()), cut=cut)
    assert (judge.size, judge.entries) == (sum(files.values()), len(files))


def test_the_limits_are_what_is_still_taken() -> None:
    """One byte, one file, one directory more is too large, and the setting is named."""
    limits = Limits(size=10, files=3)
    judged([entry(b"a", 4), entry(b"b", 6), entry(b"c", None)], limits)
    with pytest.raises(TooLarge, match="REPOSITORY_SIZE_LIMIT"):
        judged([entry(b"a", 4), entry(b"b", 7)], limits)
    with pytest.raises(TooLarge, match="REPOSITORY_FILES_LIMIT"):
        judged([entry(name, 0) for name in (b"a", b"b", b"c", b"d")], limits)


def test_depth_and_names_have_limits() -> None:
    """Those of the file systems that a checkout is for."""
    judged([entry(b"/".join([b"d"] * MOST_DEPTH))])
    with pytest.raises(TooLarge, match="directories deep"):
        judged([entry(b"/".join([b"d"] * (MOST_DEPTH + 1)))])
    judged([entry(b"n" * LONGEST_NAME)])
    with pytest.raises(TooLarge, match="a name of more than 255"):
        judged([entry(b"n" * (LONGEST_NAME + 1))])
    with pytest.raises(TooLarge, match="a path of more than 4096"):
        judged([entry(b"/".join([b"n" * 250] * 17))])


def test_a_path_without_an_end_is_not_waited_for() -> None:
    """However it is cut."""
    with pytest.raises(TooLarge, match="a path of more than"):
        judged([b"100644 blob " + OBJECT + b" 1\t" + b"n" * 10**6], cut=1000)


@pytest.mark.parametrize("name", [b".git", b".GIT", b"a/.Git/config", b"..", b"a/../b", b"a//b"])
def test_what_git_never_writes_is_no_repository_to_check_out(name: bytes) -> None:
    """Only somebody who means harm makes such a tree."""
    with pytest.raises(InvalidJob, match="git does not write"):
        judged([entry(name)])


def test_two_files_of_one_name_are_refused() -> None:
    """The second would be written over the first."""
    with pytest.raises(InvalidJob, match="two files of one name"):
        judged([entry(b"dir/a"), entry(b"b"), entry(b"dir/a")])


def test_long_paths_are_not_kept() -> None:
    """20,000 paths of 4,000 bytes are 80 MB, and a repository chooses both numbers."""
    folder = b"/".join([b"n" * 249] * 16)
    tracemalloc.start()
    try:
        judge = TreeJudge(PLENTY)
        for number in range(20_000):
            judge.feed(entry(b"%s/%d" % (folder, number), 0))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * 2**20
