"""From text to documents: titles, slugs, digests, limits."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fondation_worker.result import (
    EXCERPT,
    INLINE_LIMIT,
    Usage,
    digest_of,
    documents_from,
    slug_of,
    title_of,
    well_formed,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "digests.json").read_text())
WELL_FORMED = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["document"]["slug"])
def test_the_digest_is_the_one_that_convex_computes(vector: dict[str, Any]) -> None:
    """The functions' own tests read the same file."""
    document = vector["document"]
    parts = [str(document[name]) for name in ("slug", "title", "kind", "chapterIndex", "content")]
    assert digest_of(*parts, document.get("fileSha256", "")) == vector["digest"]


@given(st.lists(WELL_FORMED, max_size=4), st.lists(WELL_FORMED, max_size=4))
def test_different_parts_have_different_digests(one: list[str], other: list[str]) -> None:
    """The lengths keep neighbours from running into each other."""
    assert (digest_of(*one) == digest_of(*other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n\n# Two\n", "One"),
        ("intro\n\n## `Two` **words** ##\n", "Two words"),
        ("```sh\n# not me\n```\n\n# Me\n", "Me"),
        ("~~~\n# not me\n~~~\n# Me", "Me"),
        ("no heading", None),
        ("#hashtag", None),
        ("# \n\n# Real", "Real"),
    ],
)
def test_the_title_is_the_first_heading(text: str, title: str | None) -> None:
    """A comment in a code block is none."""
    assert title_of(text) == title


@pytest.mark.parametrize(
    "text",
    ["# a" + " " * 300_000 + "b", "```x\n" * 100_000, "#" * 300_000, "# " + "# " * 150_000],
    ids=["blanks", "fences", "marks", "headings"],
)
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """A pattern that backtracks would hold every slot of the worker for hours."""
    assert len(title_of(text) or "") <= 200


@given(st.text())
def test_a_slug_fits_a_url(title: str) -> None:
    """Whatever the title."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug_of(title))
    assert len(slug_of(title)) <= 80


@given(WELL_FORMED.filter(str.strip), WELL_FORMED.filter(str.strip))
def test_every_text_becomes_a_document_that_fits(text: str, fallback: str) -> None:
    """The limits of the protocol hold for all of them."""
    (document,) = documents_from(text, fallback_title=fallback)
    row = document.to_document()
    assert row["content"] == text
    assert not document.stored
    assert document.title
    assert len(document.digest) == 64


@pytest.mark.parametrize("filler", ["x", "ß", "🐙"])
def test_a_large_text_goes_to_a_file_and_leaves_its_beginning(filler: str) -> None:
    """Cut between characters, with a note that says so."""
    text = "# Large\n\n" + filler * INLINE_LIMIT
    (document,) = documents_from(text, fallback_title="x")
    row = document.to_document("storage-id")
    assert document.stored
    assert row["storageId"] == "storage-id"
    assert row["size"] == len(text.encode())
    head, note = row["content"].rsplit("\n\n… ", 1)
    assert text.startswith(head)
    assert EXCERPT - 4 < len(head.encode()) <= EXCERPT
    assert str(len(text.encode())) in note
    assert document.file_sha256 == hashlib.sha256(text.encode()).hexdigest()
    fields = (row["slug"], row["title"], row["kind"], str(row["chapterIndex"]), row["content"])
    assert document.digest == digest_of(*fields, document.file_sha256)


def test_the_limit_itself_is_inline() -> None:
    """Only more than 64 KiB is stored."""
    (document,) = documents_from("x" * INLINE_LIMIT, fallback_title="x")
    assert not document.stored


@given(st.text())
def test_well_formed_text_can_be_encoded(text: str) -> None:
    """Lone surrogates are replaced, everything else stays."""
    mended = well_formed(text + "\ud800")
    assert mended.encode().decode() == mended
    if text.isascii():
        assert mended == text + "\N{REPLACEMENT CHARACTER}"


def test_unknown_usage_is_left_out() -> None:
    """Convex must not be told a zero that nobody measured."""
    assert Usage(turns=0, cost_usd=1.5).to_document() == {"turns": 0, "costUsd": 1.5}
