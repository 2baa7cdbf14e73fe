"""Secrets do not get through, wherever they stand."""

import pytest
from hypothesis import given, strategies as st

from fondation_worker.redact import MASK, Redactor

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)


@given(SECRET, st.text(), st.text())
def test_a_known_secret_is_replaced_wherever_it_stands(
    secret: str, before: str, after: str
) -> None:
    """Also when it holds what a pattern would read as a rule."""
    assert secret not in Redactor([secret])(before + secret + after).replace(MASK, "")


@pytest.mark.parametrize(
    "token",
    [
        "sk-ant-api03-abcdefghijklmnop",
        "ghp_0123456789abcdefABCDEF0123456789abcd",
        "gho_0123456789abcdefABCDEF",
        "github_pat_11ABCDEFG0123456789_abc",
    ],
)
def test_a_token_is_known_by_its_shape(token: str) -> None:
    """It may be somebody else's, that this process was never told."""
    assert token not in Redactor([])(f"fatal: could not use {token} here")


def test_a_hostile_text_costs_no_more_than_its_length() -> None:
    """An error's text may come from a repository or a server."""
    text = "://" + "a" * 300_000 + " " + "://a:" * 60_000
    assert Redactor([])(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:pass@host/x", f"https://{MASK}@host/x"),
        ("https://token@host/x", f"https://{MASK}@host/x"),
        ("Authorization: Bearer abcdefgh12345", f"Authorization: Bearer {MASK}"),
        ("https://host/x?y=a@b", "https://host/x?y=a@b"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_user_information_and_bearer_tokens_go(text: str, clean: str) -> None:
    """And nothing else does."""
    assert Redactor([])(text) == clean
