"""Bring quotes and text layers to one form: words, numbers with all that belongs to them, signs."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.answering.signs import kinds

# All patterns read the kinds of characters (signs.py), one letter each, in place of the text.
_AMOUNT = r"(?:D{1,3}(?:[.A]D{3})+(?:[.]D+)?|D+[.]D{1,2})"
_NUMBER = r"(?:(?<![LDCN.%)])[.])?D[DX]*(?:[.:A]D[DX]*)*"
_TOKEN = re.compile(
    rf"""
      (?P<word>  L[LX]* (?: (?: H[WB]* | sX*[WBH]* ) L[LX]* )* )    # the end of a line may set a hyphen
    | (?P<number> {_NUMBER} )
    | (?P<figure> N )
    | (?P<unspaced> C[cX]* )
    | (?P<range> (?<=D) (?: W[HEM]W | [HEM]B? ) (?=D) )
    | (?P<after> (?<=[.]DD|D[.]D) [HM] (?= [WBO)] | $ ) )               # 5.00-
    | (?P<sign>  (?<![LDN%]) [HEMP] (?=\$?[.]?D)                      # -3, +3
               | M W? (?=\$?[.]?D)
               | (?<![LDN%]) [HE] W (?=\$?{_NUMBER}W?[%$])  # - 3 %
               | \( W? (?=\$?W?{_AMOUNT}W?%?W?\)) )                   # (1,234.50): negative, in accounts
    | (?P<loose> [HEM] W (?=\$?[.]?D) )
    | (?P<symbol> [%$=P] )
    """,
    re.VERBOSE,
)  # fmt: skip
_SIGNS = {"M": "-", "H": "-", "E": "-", "(": "("}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text in canonical form."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]
    """Where each token begins in the text, and where it ends."""
    ends: tuple[int, ...]
    joined: tuple[bool, ...]
    """The token belongs to the one before it: a quote can neither begin with it nor end before it."""
    is_cut: bool = False
    """The text ends with a hyphen: its last word may go on."""

    def find(self, wanted: Tokens) -> Iterator[tuple[int, int]]:
        """Yield where `wanted` stands whole: its first and last token here."""
        count = len(wanted.texts)
        for first in range(len(self.texts) - count + 1) if count else ():
            end = first + count
            if (
                self._holds(wanted, first, end - 1)
                and not self.joined[first]
                and not (end < len(self.texts) and self.joined[end])
            ):
                yield first, end - 1

    def _holds(self, wanted: Tokens, first: int, last: int) -> bool:
        if wanted.is_cut:
            ends_so = self.texts[last].startswith(wanted.texts[-1])
            return ends_so and self.texts[first:last] == wanted.texts[:-1]
        # Comparing one token first spares a slice at nearly every place.
        return self.texts[first] == wanted.texts[0] and self.texts[first : last + 1] == wanted.texts


# The same page is searched for each question about it, and the stretches of its ends many times.
@functools.lru_cache(maxsize=64)
def tokens(text: str) -> Tokens:
    """Bring a text to canonical form.

    White space, case, ligatures, quotation marks and hyphens at line ends do not matter; signs, decimal
    points and separators of numbers do.
    """
    sorts = kinds(text)
    texts: list[str] = []
    found: list[re.Match[str]] = []
    joined: list[bool] = []
    for match in _TOKEN.finditer(sorts):
        texts.append(_plain(match, text))
        joined.append(bool(found) and _is_joined(found, match, sorts, text, joined[-1]))
        found.append(match)
    starts, ends = tuple(m.start() for m in found), tuple(m.end() for m in found)
    is_cut = bool(found) and found[-1].lastgroup == "word" and sorts[ends[-1] :].rstrip("WBX") in ("H", "s")
    return Tokens(tuple(texts), starts, ends, tuple(joined), is_cut)


def _plain(match: re.Match[str], text: str) -> str:
    kind, written = match.lastgroup, match.group()
    if kind in ("sign", "range", "after", "loose"):
        mark = written.strip("WB")[0]
        return _SIGNS.get(mark) or unicodedata.normalize("NFKC", text[match.start()])
    piece = "".join(
        c for c, sort in zip(text[match.start() : match.end()], written, strict=True) if sort not in "XHsWB"
    )
    # Most text is, and NFKC changes nothing in it.
    if piece.isascii():
        return piece.lower()
    # Twice: folding the case of a letter may give a sequence that NFKC composes anew.
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).casefold())
    if kind == "number":
        return "".join(_figure(c) for c in plain)
    if kind == "figure":
        # 10² is not 102.
        power = match.start() > 0 and text[match.start() - 1].isdecimal() and plain.isdecimal()
        return "^" * power + plain.replace("\u2044", "/").strip("(). ")
    return plain


def _figure(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return {"\u066b": ".", "\u066c": ",", "\u2044": "/"}.get(
        character, character if character in ".,:/" else "'"
    )


def _is_joined(found: list[re.Match[str]], match: re.Match[str], sorts: str, text: str, before: bool) -> bool:
    """Tell whether a token belongs to the last one found; `before`: whether that one is joined itself."""
    last, kind = found[-1], match.lastgroup
    between = sorts[last.end() : match.start()]
    if last.lastgroup == "sign" or kind in ("range", "after"):
        return True
    if last.lastgroup == "range":
        # 10-15 is one thing; of 10 - 15 each number can be quoted alone.
        return "W" not in last.group()
    if last.group() == "$":
        return before  # a sign before the currency: -$5
    if last.lastgroup == "number" and kind == "number":
        return (
            between == "W" and _is_group(last.group(), before) and bool(re.match("DDD(?!D)", match.group()))
        )
    if between == "A":
        return text[match.start() : match.end()].casefold() == "t"  # can, can't
    glued = {"word", "number", "figure"}
    return not between and last.lastgroup in glued and kind in glued


def _is_group(written: str, continued: bool) -> bool:
    """Tell whether digits can be the beginning, or the middle, of a number with spaces: 1 234 567."""
    return written.strip("D") == "" and (len(written) == 3 if continued else len(written) <= 3)
