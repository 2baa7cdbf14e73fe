"""Names of files for documents: a slug comes from a model and may be anything."""

import os
from pathlib import Path

from hypothesis import example, given, strategies as st

from fondation_worker.filenames import file_names

SLUGS = st.lists(st.tuples(st.text(), st.sampled_from(("chapter", "toc", "yaml", "tutorial"))))


def test_names_are_what_a_reader_expects() -> None:
    """Numbered in order, with the suffix of what is in them."""
    documents = [("introduction", "chapter"), ("Über uns/../", "chapter"), ("map", "yaml")]
    assert file_names(documents) == ["01-introduction.md", "02-Über-uns.md", "03-map.yaml"]
    assert file_names([("", "chapter"), ("...", "toc")]) == ["01-chapter.md", "02-toc.md"]
    assert file_names([("a", "toc")] * 100)[-1] == "100-a.md"
    assert file_names([("guide.md", "chapter")]) == ["01-guide.md"]


@given(SLUGS)
@example([("../../etc/passwd", "chapter"), ("/etc/passwd", "chapter"), ("..", "chapter")])
@example([("a\x00b", "chapter"), ("\x1b[2J", "chapter"), ("-rf", "chapter"), ("\ud800", "yaml")])
@example([("x" * 300, "chapter"), ("é" * 300, "chapter"), ("漢" * 300, "chapter")])
@example([("A", "chapter"), ("a", "chapter"), ("\u202egnp", "chapter")])
def test_no_slug_leaves_the_directory_or_meets_another(documents: list[tuple[str, str]]) -> None:
    """Each name is one plain entry of a directory, and no two are one, whatever the case."""
    names = file_names(documents)
    assert len(names) == len(documents)
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert Path("/d", name).parent == Path("/d")
        assert os.path.normpath(f"/d/{name}") == f"/d/{name}"
        assert name[0].isdigit()
        assert len(os.fsencode(name)) <= 255 - len(".12345678.part") - 1
        assert name.isprintable()
        assert not set(name) & set("/\\:*?\"'<>|$`;& \t\n")
