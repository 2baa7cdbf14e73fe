"""How documents are put into calls."""

from hypothesis import given, strategies as st

from fondation_worker.handin import BATCH_LIMIT, batches
from fondation_worker.result import Document

SIZES = st.lists(st.integers(0, 64 * 1024), max_size=500)


def document(index: int, size: int) -> Document:
    """Return a document of *size* bytes."""
    return Document(
        index=index,
        slug="x",
        title="x",
        kind="chapter",
        chapter_index=index,
        text="x" * size,
        stored=False,
    )


@given(SIZES)
def test_every_document_is_in_one_call_in_order_and_no_call_is_too_large(sizes: list[int]) -> None:
    """None lost, none twice, and no empty call."""
    documents = [document(index, size) for index, size in enumerate(sizes)]
    calls = batches(documents)
    assert [one for call in calls for one in call] == documents
    assert all(calls)
    assert all(sum(len(one.text) for one in call) <= BATCH_LIMIT for call in calls)
