"""Secrets do not get through, wherever they stand and whatever was done to them."""

import base64
import json
import shlex
import time
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given, strategies as st

from fondation_worker.redact import MASK, Redactor

SHORTEST = 8  # characters of a secret that nobody may see
SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)
WITH_BLANKS = st.text(st.characters(min_codepoint=32, max_codepoint=255), min_size=8, max_size=60)
ENCODERS = st.sampled_from([base64.b64encode, base64.urlsafe_b64encode])
AROUND = st.text(st.characters(exclude_categories=["Cs"]))


def fragments(secret: str) -> set[str]:
    """Return every part of *secret* that is long enough to matter."""
    return {secret[at : at + SHORTEST] for at in range(len(secret) - SHORTEST + 1)}


def shows(secret: str, text: str) -> bool:
    """Whether *text*, or what can be read out of it, has a part of *secret*."""
    readings = (text, unquote(text), text.replace("\\", ""), text.replace("'\\''", "'"))
    return any(part in reading for part in fragments(secret) for reading in readings)


def in_chunks(redact: Redactor, text: str, cuts: list[int]) -> str:
    """Return what a stream shows of *text* that comes in chunks which end at *cuts*."""
    stream = redact.stream()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = [stream.feed(text[edges[n] : edges[n + 1]]) for n in range(len(edges) - 1)]
    return "".join((*shown, stream.end()))


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, lower": lambda text: quote(text, safe="").lower() if text.islower() else text,
    "percent, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "quoted": shlex.quote,
    "quoted by hand": lambda text: "'" + text.replace("'", "'\\''") + "'",
    "backslashes": lambda text: "".join(c if c.isalnum() else f"\\{c}" for c in text),
    "json": lambda text: json.dumps(text)[1:-1],
}


@given(WITH_BLANKS, AROUND, AROUND, st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 300)))
def test_a_known_secret_is_replaced_in_every_form_and_place(
    secret: str, before: str, after: str, form: str, cuts: list[int]
) -> None:
    """Also when it holds what a pattern would read as a rule, and over any number of chunks."""
    assume(not shows(secret, f"{before} {after} {MASK}"))
    redact, text = Redactor([secret]), before + FORMS[form](secret) + after
    assert not shows(secret, redact(text).replace(MASK, "\0"))
    assert not shows(secret, in_chunks(redact, text, cuts).replace(MASK, "\0"))


@given(SECRET, st.binary(max_size=20), st.binary(max_size=20), ENCODERS, AROUND)
def test_a_known_secret_is_replaced_in_base64(
    secret: str, before: bytes, after: bytes, encode: Callable[[bytes], bytes], around: str
) -> None:
    """With anything before it in the same encoded text, so at any alignment."""
    assume(not shows(secret, before.decode("latin1") + " " + after.decode("latin1")))
    coded = encode(before + secret.encode() + after).decode()
    for shown in (
        Redactor([secret])(around + coded + around),
        in_chunks(Redactor([secret]), around + coded + around, [len(around) + len(coded) // 2]),
    ):
        assert MASK in shown
        left = shown.removeprefix(around).removesuffix(around).split(MASK)
        decoded = [_lenient(piece[skip:]) for piece in left for skip in range(4)]
        assert not any(part.encode() in text for part in fragments(secret) for text in decoded)


def _lenient(text: str) -> bytes:
    """Return what base64 *text* holds, as far as it goes."""
    whole = text[: len(text) // 4 * 4].encode("ascii", "replace")
    try:
        return base64.b64decode(whole.translate(bytes.maketrans(b"-_", b"+/")))
    except ValueError:
        return b""


@given(SECRET, st.data())
def test_a_part_of_a_secret_at_a_cut_is_replaced(secret: str, data: st.DataObject) -> None:
    """Errors and complaints are cut to a length; what is left of a secret there tells too much."""
    where = data.draw(st.integers(1, len(secret) - 1))
    redact = Redactor([secret])
    assume(not shows(secret, f" {MASK}"))
    for text in (secret[where:] + " was wrong", "it said " + secret[:where]):
        assert not shows(secret, redact(text).replace(MASK, "\0"))
        assert not shows(secret, in_chunks(redact, text, [3]).replace(MASK, "\0"))


@given(st.lists(SECRET, min_size=2, max_size=4), st.permutations(range(4)))
def test_secrets_that_overlap_all_go(secrets: list[str], order: list[int]) -> None:
    """One may be a part of another, or begin where another ends."""
    text = "".join(secrets[n % len(secrets)] for n in order)
    shown = Redactor(secrets)(text).replace(MASK, "\0")
    assert not any(shows(secret, shown) for secret in secrets)


def test_a_secret_that_overlaps_itself_goes_whole() -> None:
    """Its second occurrence begins inside the first."""
    assert Redactor(["abababababab"])("x" + "ab" * 11 + "y") == f"x{MASK}y"


@given(AROUND, st.lists(st.integers(0, 300)))
def test_a_stream_changes_nothing_else(text: str, cuts: list[int]) -> None:
    """What it held back comes out in the end."""
    redact = Redactor(["a-secret-that-is-not-there"])
    assume(redact(text) == text)
    assert in_chunks(redact, text, cuts) == text


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 5000), st.sampled_from("x \n"))
def test_a_stream_finds_a_secret_at_any_depth(
    before: int, after: int, chunk: int, filler: str
) -> None:
    """Runs without a blank longer than what is held back, secrets and shapes across the cut."""
    secret = "a-secret-of-some-length"
    token = "ghp_0123456789abcdefABCDEF"
    text = f"{filler * before}{secret}{filler * after}{token}{filler * before}https://me:pw@host/"
    shown = in_chunks(Redactor([secret]), text, list(range(0, len(text), chunk)))
    assert secret not in shown
    assert "0123456789" not in shown
    assert "me:pw" not in shown


def test_a_stream_holds_back_a_word_only() -> None:
    """Who follows a log sees its lines as they come."""
    stream = Redactor(["a-secret-of-some-length"]).stream()
    assert stream.feed("cloned in 3 s\na-se") == "cloned in 3 s\n"
    assert stream.feed("ries of things\n") == "a-series of things\n"
    assert stream.feed("Authorization: Bearer ") == ""
    assert "abcdefgh" not in stream.feed("abcdefghi ") + stream.end()


def test_a_stream_of_one_endless_token_is_bounded() -> None:
    """Nothing of it is shown, and it is not all kept."""
    stream = Redactor([]).stream()
    shown = "".join(stream.feed("sk-ant-" + "a" * 1000) for _ in range(1000))
    assert (shown + stream.feed("bb and more ") + stream.end()).endswith(" and more ")
    assert "aaaa" not in shown


def test_a_guest_is_known_while_it_is_there() -> None:
    """A clone token: to every redactor of the process, for as long as one job needs it."""
    redact = Redactor(["of-the-worker"])
    stream = redact.stream()
    with Redactor.also("token-of-a-job"), Redactor.also("token-of-a-job"):
        assert redact("of-the-worker token-of-a-job") == f"{MASK} {MASK}"
        stream.feed("token-of-")
    with Redactor.also("token-of-a-job"):
        assert stream.feed("a-job ") == f"{MASK} "
    assert redact("token-of-a-job") == "token-of-a-job"
    with Redactor.also(None):
        assert redact("nothing") == "nothing"


@pytest.mark.parametrize(
    "token",
    [
        "sk-ant-api03-abcdefghijklmnop",
        "ghp_0123456789abcdefABCDEF0123456789abcd",
        "gho_0123456789abcdefABCDEF",
        "ghs_0123456789abcdefABCDEF",
        "github_pat_11ABCDEFG0123456789_abc",
        "glpat-0123456789abcdefABCD",
        "obf_Z2hwX2FiY2RlZg==",
        "enc_v1_00aa11bb:22cc:33dd",
    ],
)
def test_a_token_is_known_by_its_shape(token: str) -> None:
    """It may be somebody else's, that this process was never told."""
    assert token not in Redactor([])(f"fatal: could not use {token} here")


@pytest.mark.parametrize(
    "text",
    [
        "://" + "a" * 300_000 + " " + "://a:" * 60_000,
        "sk-ant-" * 150_000,
        "\\" * 2**15,
        "'" * 2**15,
        "'\\''" * 2**13,
        "%" * 2**20,
        "a-known-secret-" * 70_000,
        "Bearer " * 150_000,
        "authorization: " * 70_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """An error's text may come from a repository or a server."""
    redact = Redactor(["a-known-secret-'''''\\\\\\\\\\-of-some-length", "'" * 40, "\\" * 40])
    spent = time.process_time()
    assert redact(text)
    assert in_chunks(redact, text, list(range(0, len(text), 1000)))
    assert time.process_time() - spent < 20  # seconds; backtracking would take years


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:pass@host/x", f"https://{MASK}@host/x"),
        ("https://token@host/x", f"https://{MASK}@host/x"),
        (r"https\://user\:pass\@host/x", rf"https\://{MASK}@host/x"),
        ("https%3A%2F%2Fuser%3Apass%40host%2Fx", f"https%3A%2F%2F{MASK}%40host%2Fx"),
        ("Authorization: Bearer abcdefgh12345", f"Authorization: Bearer {MASK}"),
        ("-c http.extraheader=AUTHORIZATION: basic eDp0b2tlbg==",
         f"-c http.extraheader=AUTHORIZATION: basic {MASK}"),
        ('{"x-api-key": "abcdefgh12345"}', f'{{"x-api-key": "{MASK}"}}'),
        ("https://host/x?y=a@b", "https://host/x?y=a@b"),
        ("nothing to hide", "nothing to hide"),
        ("the basic functionality of a token", "the basic functionality of a token"),
    ],
)  # fmt: skip
def test_user_information_and_bearer_tokens_go(text: str, clean: str) -> None:
    """And nothing else does."""
    assert Redactor([])(text) == clean
