"""The forms in which a secret stands in text that others wrote, as patterns.

A known secret is looked for in plain, percent-encoded (each character or only some, upper or lower
hexadecimal), escaped for a shell or for JSON, and in base64 (both alphabets, all three alignments).
A secret that nobody told us is known by its shape.

No pattern may go back over what it has matched: the text is a stranger's. So every repetition is
bounded, and what is ambiguous is atomic.
"""

import base64
import re

SHORTEST_PART = 8  # characters: a shorter part of a secret is no secret
LONGEST_FORM = 16  # characters in the text for one of the secret, at most
_ESCAPES = 3  # backslashes before one character, at most: quoted, and quoted once more

SHAPES = re.compile(
    r"""
    sk-ant-[A-Za-z0-9_-]{8,}                # Anthropic keys and OAuth tokens
    | gh[pousr]_[A-Za-z0-9]{16,}            # GitHub tokens
    | github_pat_[A-Za-z0-9_]{16,}
    | glpat-[A-Za-z0-9_-]{16,}              # GitLab's
    | (?:obf|enc_v1)_[A-Za-z0-9+/=:_-]{8,}  # GitHub tokens as older front ends stored them
    # user information in a URL, also where the URL is escaped for a shell or percent-encoded
    | (?P<url>:\\{0,3}/\\{0,3}/)[^\s/@]{1,512}(?=@)
    | (?P<coded>%3[Aa]%2[Ff]%2[Ff])(?:(?!%2[Ff]|%40)[^\s/@&]){1,512}(?=%40)
    | (?P<bearer>[Bb]earer\ )[A-Za-z0-9._~+/-]{8,}=*
    | (?P<header>(?i:(?:authorization|x-api-key)\\?["']?[:=]\ {0,3}\\?["']?(?:(?:basic|token)\ )?))
      (?![Bb]earer)[A-Za-z0-9._~+/-]{8,}=*
    """,
    re.VERBOSE,
)


def literals(secret: str) -> list[str]:
    """Return the forms of *secret* that are one fixed text each, itself first."""
    if len(secret) < SHORTEST_PART:
        return [secret]
    raw = secret.encode("utf-8", "surrogatepass")
    plain = [_core(raw, shift) for shift in range(3)]
    others = [form.translate(str.maketrans("+/", "-_")) for form in plain]
    return list(dict.fromkeys((secret, *plain, *others)))


def _core(raw: bytes, shift: int) -> str:
    """Return the base64 of *raw* where it begins *shift* bytes into a group of three.

    Only those characters that nothing but *raw* decides: what stands before and after it is open.
    """
    text = base64.b64encode(bytes(shift) + raw).decode()
    return text[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]


def escaped(secret: str) -> str:
    """Return a pattern for *secret* with any of its characters percent-encoded or escaped."""
    parts: list[str] = []
    slashes = 0  # of the secret's own, in a row, before the next character
    for character in secret:
        if character == "\\":
            slashes += 1
            continue
        parts.append(_slashes(slashes, is_first=not parts) + _forms(character))
        slashes = 0
    parts.append(_slashes(slashes, is_first=True))
    return "".join(parts)


def _slashes(count: int, *, is_first: bool) -> str:
    """Return a pattern for *count* backslashes of the secret, and those that escape the next."""
    most = 4 * count + (0 if is_first and not count else _ESCAPES)
    return rf"(?:\\|%5[Cc]){{{count},{most}}}+" if most else ""


def _forms(character: str) -> str:
    """Return a pattern for one *character*, not a backslash, in every form."""
    code = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [_any_case(code), _any_case(f"(?<=\\\\)u{ord(character):04x}"), re.escape(character)]
    if character == "'":
        forms = [r"'\\''", "'\"'\"'", *forms]
    if character == " ":
        forms.append(r"\+")
    return f"(?>{'|'.join(forms)})"


def _any_case(code: str) -> str:
    """Return a pattern for *code* with its hexadecimal digits in upper or lower case."""
    return re.sub("[a-f]", lambda digit: f"[{digit[0]}{digit[0].upper()}]", code)
