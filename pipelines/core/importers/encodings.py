"""Which encoding a text file is in, and the same in UTF-8."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from pipelines.core.errors import InputError
from pipelines.core.importers.lines import open_plain

_SAMPLE = 4 << 20
_BLOCK = 4 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def detect(raw: bytes) -> str:
    """Name of the encoding: `utf-8`, one with a byte order mark, or what fits a sample best.

    Lines that are not UTF-8 decide. GBK's frequent characters (those of GB 2312) are pairs of bytes above 0xA0,
    which European text hardly ever has next to each other.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    odd = [line for line in raw.split(b"\n") if not _decodes(line, "utf-8")]
    if not odd:
        return "utf-8"
    if sum(_decodes(line, "gb2312") for line in odd) >= 0.5 * len(odd):
        return "gb18030"
    # Taiwan's text is GBK's too, byte by byte, but makes rare characters of it
    for name, lead in (("big5", (0xA1, 0xC6)), ("gb18030", (0x81, 0xFE))):
        if all(_decodes(line, name) for line in odd) and _is_chinese(odd, name, lead):
            return name
    return "cp1252" if all(_decodes(line, "cp1252") for line in odd) else "latin-1"


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(lines: list[bytes], encoding: str, lead: tuple[int, int]) -> bool:
    """Whether foreign characters stand next to each other and nearly all begin with bytes of this range."""
    text = "\n".join(line.decode(encoding) for line in lines)
    runs = re.findall(r"[^\x00-\x7f]+", text)
    together = sum(len(run) for run in runs if len(run) > 1)
    usual = sum(lead[0] <= c.encode(encoding)[0] <= lead[1] for run in runs for c in run)
    total = sum(map(len, runs))
    return together > 0.8 * total and usual > 0.9 * total


def sample(path: Path) -> bytes:
    """The first megabytes of a text file, cut at the end of a line."""
    with open_plain(path) as handle:
        raw = handle.read(_SAMPLE)
    whole, newline, _ = raw.rpartition(b"\n")
    return whole + newline if len(raw) == _SAMPLE and newline else raw


def to_utf8(path: Path, encoding: str, target: Path) -> None:
    """Write a text file again in UTF-8, a block at a time.

    Raises:
        InputError: an encoding that is not known, or in which the file is not.

    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as e:
        raise InputError(f"--encoding {encoding} is not known; gb18030, big5, cp1252 and utf-16 are.") from e
    target.parent.mkdir(parents=True, exist_ok=True)
    at = 0
    with open_plain(path) as handle, target.open("w", encoding="utf-8", newline="") as out:
        try:
            while block := handle.read(_BLOCK):
                out.write(decoder.decode(block))
                at += len(block)
            out.write(decoder.decode(b"", final=True))
        except UnicodeDecodeError as e:
            raise InputError(
                f"{path} is not {encoding} all through: {e.reason} near byte {at + e.start}. Give its --encoding; it "
                f"looks like {detect(sample(path))}."
            ) from e
