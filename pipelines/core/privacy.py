"""Take personal data out of text that people wrote, before it is stored or embedded.

A pattern proposes, a maintained library decides: `phonenumbers` (Google's numbering plans) for
telephone numbers, `python-stdnum` for check digits, dates and places inside identity numbers. Written
for catalogues as much as for profiles, it leaves alone the digits catalogues are full of: sizes, prices,
dates, standards, bar codes and part numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher, PhoneNumberType
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.exceptions import InvalidComponent
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.us import ssn

# A finding can free what stood glued to it. Ordinary text settles in two rounds.
_MAX_ROUNDS = 16

# One character for one character, so that positions in the plain form are positions in the text:
# full-width forms, the dashes and the spaces that Unicode has for the ASCII ones.
_PLAIN = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE63], ord("-"))
    | dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], ord(" "))
)

# Neither the middle of a longer number or word, nor the decimals of a number.
_START = r"(?<![0-9A-Za-z_])(?<![0-9][.,])"
_END = r"(?![0-9A-Za-z_])"

# Latin, Greek and Cyrillic letters, but not Chinese, which stands next to addresses without a space.
# 64 is the limit of RFC 5321 for the part before the "@".
_EMAIL = re.compile(
    r"(?<![0-9A-Za-z\u00c0-\u04ff._%+-])[0-9A-Za-z\u00c0-\u04ff._%+-]{1,64}+"
    r"@(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?\.){1,8}(?:xn--[0-9A-Za-z-]{2,59}|[A-Za-z]{2,24})"
)

# The groups printed on cards: 4-4-4-4(-1..3), 4-6-5, 4-6-4 and 6-13, or no groups at all.
_FOUR = r"[0-9]{4}"
_CARD = re.compile(
    rf"{_START}(?:{_FOUR}(?P<a>[ .-]){_FOUR}(?P=a){_FOUR}(?P=a){_FOUR}(?:(?P=a)[0-9]{{1,3}}{_END})?"
    rf"|3[0-9]{{3}}(?P<b>[ .-])[0-9]{{6}}(?P=b)[0-9]{{4,5}}"
    rf"|62{_FOUR}[ .-][0-9]{{13}}|[0-9]{{14,19}}){_END}"
)
# Issuer prefixes and the lengths they come in (ISO/IEC 7812): Visa, Mastercard, American Express, Discover,
# UnionPay, JCB, Diners. Without them every tenth bar code would pass the Luhn test. The 13-digit Visa, long
# withdrawn, is left out for looking like a German bar code, and so is an ungrouped Diners number.
_ISSUED = re.compile(
    r"4[0-9]{15}(?:[0-9]{3})?|5[1-5][0-9]{14}|3[47][0-9]{13}"
    r"|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|(?:6011|65[0-9]{2}|64[4-9][0-9])[0-9]{12,15}|62[0-9]{14,17}|35[0-9]{14}|3(?:0[0-5]|[689][0-9])[0-9]{11}"
)


def _joined(number: str) -> str:
    return number.replace(" ", "").replace("-", "")


def _is_resident_id(number: str) -> bool:
    """Check birth date and check digit, but not the county: stdnum's table of those has gaps."""
    number = _joined(number).upper()
    try:
        ric.get_birth_date(number)
    except InvalidComponent:
        return False
    return number.endswith(ric.calc_check_digit(number))


# Identity numbers whose form and check digits together leave little room for chance. Where a form is
# common (nine digits, three fours), only with the number's name before it.
_IDS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        re.compile(rf"{_START}[1-8][0-9]{{5}}[ -]?(?:19|20)[0-9]{{6}}[ -]?[0-9]{{3}}[0-9Xx]{_END}"),
        _is_resident_id,
    ),
    (re.compile(rf"{_START}[0-9]{{3}}-[0-9]{{2}}-[0-9]{{4}}(?!-){_END}"), ssn.is_valid),
    (
        re.compile(
            rf"\b(?:SSN|social security(?: (?:number|no\.?))?)[^0-9A-Za-z]{{0,4}}(?:is )?"
            rf"([0-9]{{3}}[ -]?[0-9]{{2}}[ -]?[0-9]{{4}}){_END}",
            re.IGNORECASE | re.ASCII,
        ),
        lambda number: ssn.is_valid(_joined(number)),
    ),
    (
        re.compile(
            rf"\baadhaar(?: (?:number|no\.?))?[^0-9A-Za-z]{{0,4}}(?:is )?"
            rf"({_FOUR}[ -]?{_FOUR}[ -]?{_FOUR}){_END}",
            re.IGNORECASE | re.ASCII,
        ),
        aadhaar.is_valid,
    ),
    (
        re.compile(rf"{_START}[A-Z]{{6}}[0-9]{{2}}[A-Z][0-9]{{2}}[A-Z][0-9]{{3}}[A-Z]{_END}"),
        codicefiscale.is_valid,
    ),
    (re.compile(rf"{_START}[A-Z]{{4}}[0-9]{{6}}[HM][A-Z]{{5}}[0-9A-Z][0-9]{_END}"), curp.is_valid),
    (re.compile(rf"{_START}[0-9]{{6}}[-+A][0-9]{{3}}[A-Y]{_END}"), hetu.is_valid),
    (re.compile(rf"{_START}[0-9]{{6}}-[0-9]{{7}}{_END}"), rrn.is_valid),
    (re.compile(rf"{_START}[0-9]{{3}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9]{{2}}{_END}"), cpf.is_valid),
    (re.compile(rf"{_START}[0-9]{{1,2}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9Kk]{_END}"), rut.is_valid),
    (
        re.compile(
            rf"{_START}[12] [0-9]{{2}} [0-9]{{2}} [0-9][0-9AB] [0-9]{{3}} [0-9]{{3}} [0-9]{{2}}{_END}"
        ),
        nir.is_valid,
    ),
)
_IBAN = re.compile(rf"{_START}[A-Z]{{2}}[0-9]{{2}}(?: ?[0-9A-Z]{{4}}){{2,7}}(?: ?[0-9A-Z]{{1,3}})?{_END}")

# Groups of digits that may make a telephone number. E.164 allows 15 digits, 17 with an "00".
_BLOCK = r"[0-9]{1,17}+(?![0-9])(?!(?!e?xt?[ .]?[0-9])[A-Za-z_])"
_WINDOW = re.compile(rf"(?<![0-9A-Za-z_$€£¥])(?<![0-9][.,])[+(]{{0,3}}{_BLOCK}(?:[ ()./+-]{{0,4}}{_BLOCK})*+")
_CHUNK = 1000
_MIN_PHONE_DIGITS = 7

# A word just before it makes a number without separators a telephone number. Not after "[": that is
# the placeholder of the number before it.
_PHONE_WORD = re.compile(
    r"(?:(?<![A-Za-z\[])"
    r"(?:tel|(?:tele)?phone|mobile|cell ?phone|fax|call|dial|whatsapp|sms|hotline)"
    r"(?:(?: (?:number|no|us|me|is|at|on|now|today))|[ .:#(-])*"
    r"|(?:电话|電話|手机|手機|联系|聯繫|致电|拨打|传真|傳真|热线|熱線|专线|客服|微信)[^0-9A-Za-z]{0,8})$",
    re.IGNORECASE,
)
_HINT_REACH = 40
# What stands between a number so announced and the next one: "call 2125550123 or 2125550124".
_LISTED = re.compile(r"[ ,;/&、，；]{0,3}(?:or|and|或者?|和)?[ ]?", re.IGNORECASE)


def scrub_personal_data(
    text: str, *, regions: Sequence[str] = ("US", "GB", "CN")
) -> tuple[str, dict[str, int]]:
    """Replace personal data by `[email]`, `[phone]`, `[card]` and `[id]`, and count what was replaced.

    `regions` are the ISO 3166 codes of the countries whose national way of writing telephone numbers is
    read; a number with its "+" and country code is found whatever they are. An identity number is a US
    SSN, a Chinese resident ID, an IBAN, or one of a few others whose check digits and form are strict.
    Works next to Chinese without spaces and on full-width digits. Run it after `clean_text`: markup and
    invisible characters inside a number hide it.

    Precision comes first. Missed on purpose: local numbers without an area code; North American and
    landline numbers written as one run of digits with no word such as "call" or "电话" before them;
    numbers glued to Latin letters or spelled out; names and postal addresses. A part number written like a
    telephone number (312-555-0142) is taken for one.

    The counts hold only kinds that were found. Scrubbing twice changes nothing. Any string is accepted.
    Raises ValueError for a region `phonenumbers` has no numbering plan for.
    """
    unknown = [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]
    if unknown:
        msg = f"unknown regions {unknown}, expected ISO 3166 codes in capitals such as 'US', 'GB', 'CN'"
        raise ValueError(msg)
    counts: Counter[str] = Counter()
    for _ in range(_MAX_ROUNDS):
        found = _find(text.translate(_PLAIN), regions)
        if not found:
            break
        pieces: list[str] = []
        end = 0
        for start, stop, kind in found:
            pieces += (text[end:start], f"[{kind}]")
            end = stop
            counts[kind] += 1
        text = "".join(pieces) + text[end:]
    return text, dict(counts)


_Span = tuple[int, int]


def _find(plain: str, regions: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return what to replace, in order and without overlaps; the stricter kinds are sought first."""
    found: list[tuple[int, int, str]] = []
    searches: tuple[tuple[str, Callable[[str], Iterator[_Span]]], ...] = (
        ("email", _emails),
        ("id", _ids),
        ("card", _cards),
        ("phone", lambda rest: _phones(rest, regions)),
    )
    for kind, search in searches:
        spans = _merged(search(plain))
        found += [(start, stop, kind) for start, stop in spans]
        plain = _masked(plain, spans)
    return sorted(found)


def _merged(spans: Iterator[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _masked(plain: str, spans: Sequence[_Span]) -> str:
    """Blank the spans with line breaks, which no pattern here reaches across."""
    pieces: list[str] = []
    end = 0
    for start, stop in spans:
        pieces += (plain[end:start], "\n" * (stop - start))
        end = stop
    return "".join(pieces) + plain[end:]


def _emails(plain: str) -> Iterator[_Span]:
    if "@" in plain:
        yield from (match.span() for match in _EMAIL.finditer(plain))


def _ids(plain: str) -> Iterator[_Span]:
    for pattern, is_valid in _IDS:
        for match in pattern.finditer(plain):
            if is_valid(match[match.lastindex or 0]):
                yield match.span(match.lastindex or 0)
    for match in _IBAN.finditer(plain):
        # Words in capitals after the number look like more of its groups.
        stops = [match.end(), *(i for i in range(match.end() - 1, match.start() + 14, -1) if plain[i] == " ")]
        for stop in stops:
            if iban.is_valid(plain[match.start() : stop]):
                yield match.start(), stop
                break


def _cards(plain: str) -> Iterator[_Span]:
    for match in _CARD.finditer(plain):
        digits = re.sub(r"[^0-9]", "", match[0])
        grouped = len(digits) < len(match[0])
        if _ISSUED.fullmatch(digits) and luhn.is_valid(digits) and (grouped or len(digits) > 14):
            yield match.span()


def _phones(plain: str, regions: Sequence[str]) -> Iterator[_Span]:
    hinted, end = False, -1
    for start, stop in _windows(plain):
        window = plain[start:stop]
        listed = hinted and _LISTED.fullmatch(plain, end, start) is not None
        hinted = listed or _PHONE_WORD.search(plain, max(0, start - _HINT_REACH), start) is not None
        end = stop
        if sum(char.isdigit() for char in window) < _MIN_PHONE_DIGITS:
            continue
        for region in regions:
            for match in PhoneNumberMatcher(window, region, leniency=Leniency.STRICT_GROUPING):
                if _is_convincing(match.raw_string, match.number, hinted=hinted):
                    yield start + match.start, start + match.end


def _windows(plain: str) -> Iterator[_Span]:
    """Yield stretches of digits and separators, no longer than the matcher handles quickly.

    A number that straddles two chunks is found in the next round, once its neighbours are replaced.
    """
    for match in _WINDOW.finditer(plain):
        start, end = match.span()
        while end - start > _CHUNK:
            space = plain.rfind(" ", start + 1, start + _CHUNK)
            stop = space if space > 0 else start + _CHUNK
            yield start, stop
            start = stop
        yield start, end


def _is_convincing(raw: str, number: phonenumbers.PhoneNumber, *, hinted: bool) -> bool:
    """Tell a telephone number from other digits that the numbering plan happens to allow.

    With its "+" it always is one. Without, a landline outside North America is dialled with a leading 0,
    and a run of digits with no separator must be a mobile number unless a word announces it.
    """
    if "+" in raw:
        return True
    if raw.startswith(("0-", "0 ", "0.")):
        # The start of a range or of a bar code: nobody parts the leading 0 from its area code.
        return False
    kind = phonenumbers.number_type(number)
    digits = re.sub(r"[^0-9]", "", raw)
    if kind != PhoneNumberType.MOBILE and digits == raw and not hinted:
        return False
    return kind != PhoneNumberType.FIXED_LINE or number.country_code == 1 or digits.startswith("0")
