"""What must not be logged, taken out before a line leaves the memory of the process.

A line is looked at as JSON text first; only one in which something may be secret is taken apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any, cast

from pydantic_core import from_json, to_json

from dominus.shipping.lines import ID_LENGTH

__all__ = ["HIDDEN", "Redactor"]

HIDDEN = "***"
UNREADABLE = b"(a line that could not be read is left out)"
_ALWAYS = frozenset({
    "password", "passwd", "passphrase", "pwd", "secret", "cvv", "cvc", "pin", "ssn",
    "apikey", "privatekey", "accesskey", "secretkey", "cardnumber", "creditcard", "pan",
})  # fmt: skip
"""Words of a key whose value is hidden, whatever it is."""
_TEXTS = frozenset({
    "token", "authorization", "cookie", "credential", "psk", "jwt", "bearer", "session", "otp",
})  # fmt: skip
"""Likewise, but for numbers: `token_count` is none."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
# Each pattern reads a text once, however it is made: what a pattern has taken it does not give back (`++`), and where
# it begins is told by a fixed word. A text of a line that is logged may be somebody's attack on the one who logs it.
_NAMES = r"password|passwd|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|cvv|cvc|credential"
_ISSUED = (
    r"gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|sk-|[rs]k_(?:live|test)_|AKIA|ASIA|AIza|npm_|pypi-|whsec_"
)
"""How well-known services begin the keys that they issue."""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?<![A-Za-z0-9])(?:{_ISSUED})[\w-]{{16,}}+"), HIDDEN),
    (
        re.compile(r"(?i)((?:authorization|cookie)\\*[\"']?\s*+[=:]\s*+\\*[\"']?)[^\r\n\"'\\]++"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s++[\w.~+/=-]{8,}+"), rf"\1 {HIDDEN}"),
    # Up to the last @ before the path: one within the password ends nothing.
    (re.compile(r"(://[^\s/:@]*+):[^\s/]*@"), rf"\1:{HIDDEN}@"),
    (
        re.compile(
            r"(?i)([?&](?:[\w.%-]*[_.-])?(?:key|sig|signature|auth|code|session|sid|psk|jwt)=)[^&#\s\"'<>]++"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"(?i)((?:{_NAMES})\\*[\"']?\s*+[=:]\s*+)"
            # A text that was cut has no closing mark.
            r"(?:[\w.(\[]{0,20}\\*(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))|[^\s,;&\"']++)"
        ),
        rf"\1{HIDDEN}",
    ),
)
_JWT = re.compile(r"eyJ[\w-]*+(\.[\w-]{8,}+\.[\w-]*+)?")
_NO_WORD_BEFORE, _NO_WORD_AFTER = r"(?<![A-Za-z0-9])(?<!\d\.)", r"(?![A-Za-z0-9])"
# As cards have them printed on, wherever other digits stand beside: a month, a check number, an amount.
_CARD = re.compile(
    rf"{_NO_WORD_BEFORE}(?=(\d{{4}}([ -]?)\d{{4}}\2\d{{4}}\2\d{{4}}|\d{{4}}([ -]?)\d{{6}}\3\d{{4,5}}|\d{{13,19}}|"
    rf"\d{{4}}([ -])\d{{4}}\4\d{{4}}\4\d{{4}}\4\d{{3}}){_NO_WORD_AFTER})"
)
_DIGITS = re.compile(rf"{_NO_WORD_BEFORE}\d(?:[ -]?\d){{12,18}}{_NO_WORD_AFTER}")
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
# Over the JSON of a line: it may find too much, never too little.
_SUSPICIOUS = (
    r"passw|pass_?-?phrase|pwd|secret|cvv|cvc|pin|ssn|api.?key|private.?key|access.?key|card|pan|token|authori[sz]|"
    r"cookie|credential|psk|jwt|bearer|basic|session|otp|eyj|://[^\"\s/]*@|\d(?:[ -]?\d){12}|\\u0000|"
    rf"[?&][^=&?\"\s]*(?:key|sig|signature|auth|code|sid)=|{_ISSUED.lower()}"
)
NUL = "\x00"
NO_TEXT = "\ufffd"


class Redactor:
    """Hides secrets by the names of keys, and by what texts look like."""

    def __init__(self, more: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        """Prepare.

        Args:
            more: further words of keys; `!word` takes one away.
            secrets: texts that are hidden wherever they stand.
        """
        words = [word.strip().lower() for word in more if word.strip()]
        added = frozenset(_joined(word) for word in words if not word.startswith("!")) - {""}
        removed = frozenset(_joined(word[1:]) for word in words if word.startswith("!"))
        self._always = (_ALWAYS | added) - removed
        self._texts = _TEXTS - removed
        self._secrets = [secret for secret in secrets if len(secret) >= 8]
        self._known: dict[str, int] = {}
        # Words of several parts stand in a key with anything between them; large letters beyond ASCII stay large below.
        spread = [r"[^a-z0-9\x80-\xff]*".join(map(_letter, word)) for word in added]
        known = [re.escape(secret.lower()) for secret in self._secrets]
        # Over a line in small letters: without IGNORECASE a search is several times quicker.
        self._suspicious = re.compile("|".join([_SUSPICIOUS, *spread, *known]).encode())

    def clean(self, line: bytes) -> bytes:
        """Return the line without what is secret; itself where nothing is."""
        if self._suspicious.search(line.lower(), ID_LENGTH) is None:
            return line
        try:
            fields = cast("dict[str, Any]", from_json(line))
        except ValueError:
            # It cannot be looked through, so nothing of it leaves; one line must not hold up all others.
            level = re.match(rb'"level":"(\w+)"', line[ID_LENGTH + 2 :])
            return b'%b","level":"%b","message":"%b"}' % (
                line[:ID_LENGTH],
                level[1] if level else b"error",
                UNREADABLE,
            )
        for name in ("message", "category", "context"):
            fields[name] = self.value(fields.get(name))
        return to_json(fields, inf_nan_mode="strings")

    def value(self, value: Any) -> Any:
        """Return a JSON value without what is secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            return {self.text(key): self._of_key(key, item) for key, item in items}
        if isinstance(value, list):
            return [self.value(item) for item in cast("list[Any]", value)]
        return _hidden_number(value) if isinstance(value, int) else value

    def _of_key(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        kind = self._known.get(key)
        if kind is None:
            if len(self._known) > 10_000:
                self._known.clear()
            kind = self._known[key] = self._kind(key)
        if kind == 2 or (kind == 1 and not isinstance(value, (int, float))):
            return HIDDEN
        return self.value(value)

    def _kind(self, key: str) -> int:
        """Return 2 for a key whose value is hidden, 1 when numbers are not, 0 for any other."""
        words = [word.lower() for word in _WORDS.findall(key)]
        pairs = {first + second for first, second in itertools.pairwise(words)}
        # A plural is the same word.
        names = {*words, *pairs, "".join(words), *(word[:-1] for word in words if word.endswith("s"))}
        if names & self._always:
            return 2
        return 1 if names & self._texts and not {"id", "type", "count"} & set(words) else 0

    def text(self, text: str) -> str:
        """Return a text without what looks secret."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "PRIVATE KEY" in text:
            text = _KEY_BLOCK.sub(HIDDEN, text)
        if "eyJ" in text:
            text = _JWT.sub(_hidden_jwt, text)
        for pattern, hidden in _PATTERNS:
            text = pattern.sub(hidden, text)
        text = _DIGITS.sub(_hidden_digits, _without_cards(text))
        return text.replace(NUL, NO_TEXT) if NUL in text else text


def _joined(word: str) -> str:
    return "".join(_WORDS.findall(word)).lower()


def _letter(letter: str) -> str:
    return re.escape(letter) if letter.isascii() else r"[\x80-\xff]{1,4}"


def _hidden_jwt(found: re.Match[str]) -> str:
    return found.group() if found[1] is None else HIDDEN


def _without_cards(text: str) -> str:
    kept, end = list[str](), 0
    for found in _CARD.finditer(text):
        start = found.start()
        digits = _digits_of(found[1])
        if start >= end and _is_card(digits):
            kept += [text[end:start], _last_four(digits)]
            end = start + len(found[1])
    return "".join([*kept, text[end:]]) if kept else text


def _hidden_digits(found: re.Match[str]) -> str:
    digits = _digits_of(found.group())
    return _last_four(digits) if _is_card(digits) else found.group()


def _hidden_number(value: int) -> int | str:
    if not 10**12 <= abs(value) < 10**19:
        return value
    digits = _digits_of(str(abs(value)))
    return _last_four(digits) if _is_card(digits) else value


def _digits_of(text: str) -> list[int]:
    return [int(character) for character in text if character.isdigit()]


def _last_four(digits: list[int]) -> str:
    return HIDDEN + "".join(map(str, digits[-4:]))


def _is_card(digits: list[int]) -> bool:
    """Whether digits are the number of a payment card: their first says the network, their last is Luhn's sum."""
    if digits[0] not in {2, 3, 4, 5, 6}:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) if at % 2 else digit for at, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
