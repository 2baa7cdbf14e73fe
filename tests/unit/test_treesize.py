"""A commit is judged from git's list of it, wherever the list is cut, whatever its names are."""

import itertools
import tracemalloc

import pytest
from hypothesis import given, strategies as st

from fondation_worker.errors import InvalidJob, TooLarge
from fondation_worker.treesize import (
    LONGEST_NAME,
    LONGEST_PATH,
    MOST_DEPTH,
    Limits,
    TreeJudge,
)

SOME = Limits(size=1000, files=10)
NAME = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {0, 9, 47} & set(name) and name.lower() not in {b".", b"..", b".git"}
)
FILES = st.dictionaries(NAME, st.integers(0, 100), max_size=10)


def entry(path: bytes, size: int | None = 0, mode: bytes = b"100644") -> bytes:
    """Return what `git ls-tree -l -z` prints of one file, or of a directory without a *size*."""
    kind = b"blob" if size is not None else b"tree"
    shown = b"-" if size is None else str(size).encode()
    return mode + b" " + kind + b" " + b"0" * 40 + b" " + shown.rjust(7) + b"\t" + path + b"\0"


def judged(*entries: bytes, limits: Limits = SOME) -> TreeJudge:
    """Return a judge that has heard all *entries*."""
    judge = TreeJudge(limits)
    judge.feed(b"".join(entries))
    return judge


@given(FILES, st.lists(st.integers(0, 500)))
def test_what_fits_passes_wherever_the_list_is_cut(
    files: dict[bytes, int], cuts: list[int]
) -> None:
    """Names are bytes: in UTF-8, or not."""
    text = b"".join(entry(path, size) for path, size in files.items())
    judge = TreeJudge(SOME)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for begin, end in itertools.pairwise(edges):
        judge.feed(text[begin:end])
    assert (judge.entries, judge.size) == (len(files), sum(files.values()))


def test_each_limit_is_the_last_that_passes() -> None:
    """One more of anything is refused, with the setting's name where there is one."""
    judged(entry(b"a", 1000), *(entry(b"%d" % n, 0) for n in range(9)))
    with pytest.raises(TooLarge, match=r"1000 bytes.*REPOSITORY_SIZE_LIMIT"):
        judged(entry(b"a", 999), entry(b"b", 2))
    with pytest.raises(TooLarge, match=r"10 files.*REPOSITORY_FILES_LIMIT"):
        judged(*(entry(b"%d" % n) for n in range(11)))


def test_directories_and_submodules_count_as_files_without_bytes() -> None:
    """A bomb may consist of nothing else."""
    with pytest.raises(TooLarge, match="files and directories"):
        judged(*(entry(b"%d" % n, None) for n in range(11)))
    assert judged(entry(b"a", None), entry(b"b", None, b"160000")).size == 0


@pytest.mark.parametrize(
    ("fits", "more", "words"),
    [
        (b"/".join([b"d"] * MOST_DEPTH), b"/d", "directories deep"),
        (b"n" * LONGEST_NAME, b"n", "a name of more"),
        (b"/".join([b"n" * 127] * 32), b"n", "a path of more"),
    ],
)
def test_depth_name_and_path_have_bounds(fits: bytes, more: bytes, words: str) -> None:
    """What no tool could open, or remove; each bound is the last that passes."""
    assert len(fits) <= LONGEST_PATH
    judged(entry(fits))
    with pytest.raises(TooLarge, match=words):
        judged(entry(fits + more))


def test_a_path_without_an_end_is_refused_while_it_comes() -> None:
    """It is never held whole."""
    judge = TreeJudge(SOME)
    judge.feed(b"n" * LONGEST_PATH)
    with pytest.raises(TooLarge, match="a path of more"):
        judge.feed(b"n" * 300)
    assert judge.entries == 0


def test_all_paths_together_have_a_bound() -> None:
    """Git keeps all of them in memory, and few objects make many long ones."""
    limits = Limits(size=1000, files=5000)
    long = b"/".join([b"n" * 200] * 20)
    with pytest.raises(TooLarge, match="paths have more than"):
        judged(*(entry(b"%04d/" % n + long) for n in range(1000)), limits=limits)
    judged(*(entry(b"%04d/" % n + long[:200]) for n in range(1000)), limits=limits)


@pytest.mark.parametrize(
    "path", [b".git/config", b"a/.GIT/hooks/x", b"..", b"a/../b", b"a//b", b"."]
)
def test_what_a_checkout_would_not_write_is_an_invalid_job(path: bytes) -> None:
    """With its name, so that somebody can mend it."""
    with pytest.raises(InvalidJob, match="git does not write"):
        judged(entry(path))


def test_two_files_of_one_name_are_an_invalid_job() -> None:
    """Which of them was analysed, nobody could say."""
    with pytest.raises(InvalidJob, match="two files of one name"):
        judged(entry(b"a", None), entry(b"a/b"), entry(b"a"))


def test_long_paths_are_not_kept() -> None:
    """20,000 paths of 4,000 bytes are 80 MB, and a repository chooses both numbers."""
    folder = b"/".join([b"n" * 249] * 16)
    judge = TreeJudge(Limits(size=1, files=10**6))
    tracemalloc.start()
    try:
        for number in range(20_000):
            judge.feed(entry(b"%s/%d" % (folder, number)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * 2**20


@given(st.binary(min_size=1, max_size=300).filter(lambda path: 0 not in path))
def test_any_path_is_judged_in_words(path: bytes) -> None:
    """Nothing else is raised, and the words can be shown and sent."""
    with pytest.raises((TooLarge, InvalidJob)) as caught:
        judged(entry(path), entry(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
