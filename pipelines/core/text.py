"""Turn descriptions as they arrive into plain text that an encoder can read.

Catalogue text comes with HTML, entities escaped once or twice, zero-width characters and broken
Unicode, next to prose such as "sizes 3<4" that must survive. Every step is linear in the length of
the text, whatever the text is, because one hostile description must not stop a build.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from decimal import Decimal
from html.entities import html5
from numbers import Real

from selectolax.lexbor import LexborHTMLParser

# Eight levels of escaping is far beyond any feed; what is still unstable then was built to be.
_MAX_PASSES = 8

# UAX #15, "Stream-Safe Text Format": no language stacks more marks than this on one letter, and
# canonical reordering takes quadratic time on the runs that do.
_MAX_MARKS = 30

_EMOJI = r"\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"

# Controls that str.split does not take for white space, lone surrogates, and characters that show
# nothing. A zero-width joiner stays between two emoji only: without it one family falls apart into
# four people. Elsewhere it (and the non-joiner) only steers glyph shapes and would split tokens.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
    rf"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])"
)

# Long runs that may hold combining marks: outside ASCII, Latin, kana, Chinese and Hangul.
_SUSPECT_MARKS = re.compile(rf"[^\x00-\u02ff\u3040-\u3098\u309b-\ua66e\uac00-\ud7ff]{{{_MAX_MARKS + 1},}}")

# References with their semicolon, and the few that are often written without it. No others: read
# as HTML5 does, "R&region" would become "R®ion". The space in "& amp;" is what tokenizers leave.
_REFERENCE = re.compile(
    r"&(?P<name>[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
    r"|& ?(?P<common>amp|lt|gt|quot|apos|nbsp);"
    r"|&(?P<bare>amp|lt|gt|quot|nbsp|#39)(?![A-Za-z0-9;=])"
)

# Anything a `<` may open. Each alternative stops at the next `<` and never gives back what it took
# (`*+`), so a text of nothing but `<` is read once. A tag or declaration that ends in `-->` is left
# alone: those characters close the comment around it.
_MARKUP = re.compile(
    r"""
    (?P<cdata><!\[CDATA\[) | (?P<comment><!--)
    | (?P<declaration><(?:!doctype|!\[|\?[a-z])[^<>]*+(?<!--)>)
    | <(?P<slash>/?)(?P<name>[a-z][a-z0-9]*+(?:[:-][a-z0-9:-]*+)?)
      (?P<attributes>(?:[\s/](?:[^<>=]++|=\s*+(?:"[^"<]*+"|'[^'<]*+')?)*+)?)(?<!--)>
    | <
    """,
    re.IGNORECASE | re.VERBOSE,
)
_END_TAG = re.compile(r"</([a-z][a-z0-9:-]*+)[^<>]*+(?<!--)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\s+[a-z:@][\w:.@-]*+\s*=", re.IGNORECASE)

_HIDDEN = frozenset({"script", "style"})
_BLOCK = re.compile(
    "address|article|aside|blockquote|body|br|button|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|"
    "fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|img|input|label|"
    "legend|li|link|main|menu|meta|nav|noscript|object|ol|optgroup|option|p|pre|section|select|source|summary|"
    "svg|table|tbody|td|template|textarea|tfoot|th|thead|title|tr|ul|video"
)
_INLINE = re.compile(
    "a|abbr|acronym|b|basefont|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|nobr|q|s|samp|small|span|"
    "strike|strong|sub|sup|time|tt|u|var|wbr"
)
# Also words, or letters that stand for quantities: without an attribute or an end tag somewhere,
# "a<b>c" and "enter <address>" are prose.
_AMBIGUOUS = re.compile(
    "a|abbr|address|article|b|big|button|caption|center|cite|code|col|details|dialog|dir|figure|footer|form|frame|"
    "header|i|input|label|legend|link|main|mark|menu|meta|object|option|q|s|section|select|small|source|strike|"
    "summary|template|time|title|tt|u|var|video|.*[:-].*"
)
_BARE_ATTRIBUTE = re.compile(
    "async|checked|compact|controls|defer|disabled|hidden|nowrap|noshade|selected|.*=.*", re.IGNORECASE
)

_SENTENCE_END = frozenset(".!?…。！？")

# How far back from the limit a space is looked for: about one long English word.
_BOUNDARY_REACH = 24

_SCRIPT_WITHOUT_SPACES = re.compile(
    r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


def clean_text(raw: str) -> str:
    """Return the text a reader would see: no markup, no invisible characters, single spaces, NFC.

    Markup, escaped markup (`&lt;p&gt;`, as feeds that escape their HTML send it) and doubly escaped
    entities are undone until nothing changes, so cleaning twice changes nothing. Block tags become a
    space; inline ones vanish (`H<sub>2</sub>O` is `H2O`). A `<` that opens no real tag stays, as in
    `x<y and y>z`. NFC, not NFKC: full-width Chinese punctuation is
    kept. Lone surrogates are dropped, so the result always encodes as UTF-8. A stack of more than 30
    combining marks is cut to 30. Variation selectors stay.

    Text that is still changing after eight passes was made to exhaust the cleaner: its `<` and `&`
    become spaces. Any string is accepted; the result may be empty.
    """
    text = _tidy(raw)
    for _ in range(_MAX_PASSES):
        before = text
        text = _tidy(_unescape(_drop_markup(text)))
        if text == before:
            return text
    return _tidy(text.replace("&", " ").replace("<", " "))


def compose_text(values: Mapping[str, object], columns: Sequence[str], *, separator: str = ". ") -> str:
    """Join the cleaned values of `columns`, in that order, into the one text that is embedded.

    Lists are joined with ", ". Missing values (absent, None, NaN, pandas' NA and NaT), empty ones, and
    parts equal to an earlier one but for case and final punctuation are skipped; so are repeats within a
    list. A whole float is written as an integer, since a missing year elsewhere in a column makes pandas
    turn 1995 into 1995.0. After a part that ends a sentence, a separator's leading full stop is left out.

    Raises TypeError for bytes and for mappings, which have no one reading as text.
    """
    parts: dict[str, str] = {}
    for column in columns:
        part = _value_text(values.get(column), column)
        if part:
            parts.setdefault(_identity(part), part)
    composed = ""
    for part in parts.values():
        if not composed:
            composed = part
        elif composed[-1] in _SENTENCE_END:
            composed += (separator.removeprefix(".") or " ") + part
        else:
            composed += separator + part
    return composed


def truncate_text(text: str, max_chars: int) -> str:
    """Return at most `max_chars` characters from the start of `text`, cut where a reader would cut.

    The cut moves back to the last space when one lies within 24 characters (and in the second half), and
    stays where it is next to Chinese, Japanese or Korean, which have no such boundary. It never parts a
    letter from its combining marks or splits a joined emoji, unless one of them fills the whole limit.
    Trailing white space goes. Raises ValueError if `max_chars` is negative.
    """
    if max_chars < 0:
        msg = f"max_chars is {max_chars}, expected 0 or more"
        raise ValueError(msg)
    if len(text) <= max_chars:
        return text
    cut = max_chars
    while cut > 0 and (_extends(text[cut]) or text[cut - 1] == "\u200d"):
        cut -= 1
    cut = cut or max_chars
    splits_word = (
        cut > 0 and not text[cut].isspace() and not _SCRIPT_WITHOUT_SPACES.search(text[cut - 1 : cut + 1])
    )
    if splits_word:
        space = text.rfind(" ", max(cut - _BOUNDARY_REACH, cut // 2), cut)
        cut = space if space > 0 else cut
    return text[:cut].rstrip()


def _tidy(text: str) -> str:
    """Drop what cannot be seen, compose to NFC, and make all white space single spaces."""
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _SUSPECT_MARKS.sub(_limit_marks, text))
        # Composition excludes a few characters, which come out as two marks each.
        text = _SUSPECT_MARKS.sub(_limit_marks, text)
    return " ".join(text.split())


def _limit_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def _drop_markup(text: str) -> str:
    """Take the tags, comments, scripts and styles out of `text`.

    Patterns decide which `<` open a tag, and reduce every tag to a space or to nothing. Only what
    needs HTML's own rules, comments and the insides of scripts and styles, is left to lexbor. That
    document has no nesting: lexbor takes 90 seconds over a megabyte of unclosed `<div>`.
    """
    if "<" not in text:
        return text
    last_end = {tag[1].lower(): tag.start() for tag in _END_TAG.finditer(text)}
    parse = not _HIDDEN.isdisjoint(last_end) or "-->" in text
    if parse:
        # Entities are decoded afterwards, by the rules of _REFERENCE.
        text = text.replace("&", "&amp;")
        last_end = {tag[1].lower(): tag.start() for tag in _END_TAG.finditer(text)}
    last_comment_end = text.rfind("-->")

    def replacement(markup: re.Match[str]) -> str:
        if markup["comment"]:
            # An unclosed comment would take the rest of the description with it. `<!-->` is closed.
            return markup[0] if markup.start() + 2 <= last_comment_end else " "
        if markup["declaration"] or markup["cdata"]:
            return " "
        if not markup["name"] or not _is_tag(markup, last_end):
            return "&lt;" + markup[0][1:] if parse else markup[0]
        name = markup["name"].lower()
        if name in _HIDDEN:
            closed = markup["slash"] or markup.start() < last_end.get(name, -1)
            return f" <{markup['slash']}{name}>" if parse and closed else " "
        return " " if _BLOCK.fullmatch(name) else ""

    stripped = _MARKUP.sub(replacement, text)
    if "<![CDATA[" in text:
        stripped = stripped.replace("]]>", " ")
    if not parse:
        return stripped
    parser = LexborHTMLParser(stripped)
    parser.strip_tags(sorted(_HIDDEN))
    return parser.root.text(deep=True, separator="") if parser.root else ""


def _is_tag(markup: re.Match[str], last_end: Mapping[str, int]) -> bool:
    """Tell a tag from prose such as `x<b and a>y`, by its name, its attributes and its end tag."""
    name = markup["name"].lower()
    custom = ":" in name or "-" in name
    if not (custom or name in _HIDDEN or _BLOCK.fullmatch(name) or _INLINE.fullmatch(name)):
        return False
    attributes = markup["attributes"].rstrip("/ ")
    if markup["slash"] or _ATTRIBUTE.match(attributes):
        return True
    if attributes:
        return all(_BARE_ATTRIBUTE.fullmatch(word) for word in attributes.split())
    return not _AMBIGUOUS.fullmatch(name) or name in last_end


def _unescape(text: str) -> str:
    return _REFERENCE.sub(_referent, text) if "&" in text else text


def _referent(reference: re.Match[str]) -> str:
    name = reference["name"] or reference["common"] or reference["bare"]
    if name.startswith("#"):
        return html.unescape(f"&{name};")
    return html5.get(f"{name};", reference[0])


def _value_text(value: object, column: str) -> str:
    if isinstance(value, str):
        return clean_text(value)
    if _is_missing(value):
        return ""
    if isinstance(value, bytes | bytearray | Mapping):
        msg = (
            f"column {column!r} holds a {type(value).__name__}, expected text, a number or a list; "
            "decode it or pick one of its fields before composing"
        )
        raise TypeError(msg)
    if isinstance(value, Iterable):
        parts: dict[str, str] = {}
        # A set has no order of its own, and the same row must always give the same text.
        for element in sorted(value, key=str) if isinstance(value, Set) else value:
            part = _value_text(element, column)
            parts.setdefault(_identity(part), part)
        return ", ".join(part for part in parts.values() if part)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Real) and abs(number := float(value)) < 2**53 and number.is_integer():
        return str(int(number))
    return clean_text(str(value))


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, Real | Decimal):
        return math.isnan(value)
    # By name, so that reading a row does not need pandas.
    return type(value).__name__ in {"NAType", "NaTType"}


def _identity(part: str) -> str:
    """Return what two parts share when one merely repeats the other."""
    return part.casefold().rstrip(" .!?…。！？")


def _extends(char: str) -> bool:
    """Tell whether `char` belongs to the character before it: a mark, a joiner, a skin tone."""
    return (
        unicodedata.category(char).startswith("M") or char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff"
    )
