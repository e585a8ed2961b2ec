"""The pieces a page is put together from; all of them take plain text, escape it and return HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pipelines.core.report.style import STYLE
from pipelines.core.report.svg import key
from pipelines.core.report.wording import DASH

Cell = str
"""A `<td>` or `<th>`, complete."""


def page(title: str, body: Iterable[str]) -> str:
    """A page that needs nothing else: no script, no font, no image from outside."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def paragraph(text: str, css: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p class='{css}'>{escape(text)}</p>" if css else f"<p>{escape(text)}</p>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names with values, in a row that wraps."""
    inner = "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in pairs if v)
    return f"<dl class='facts'>{inner}</dl>" if inner else ""


def glossary(pairs: Iterable[tuple[str, str]]) -> str:
    """Words with their meanings."""
    inner = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in pairs)
    return f"<dl class='glossary'>{inner}</dl>"


def cell(text: str, small: str = "", css: str = "", *, mark: bool = False) -> Cell:
    """A cell with an optional second line; `mark` underlines the first."""
    second = f"<small>{escape(small)}</small>" if small else ""
    first = f"<u>{escape(text)}</u>" if mark else escape(text)
    return f"<td{_class(css)}>{first}{second}</td>"


def head(text: str, small: str = "", css: str = "", rows: int = 1, scope: str = "row") -> Cell:
    """A heading of a row (or column), over `rows` rows."""
    second = f"<small>{escape(small)}</small>" if small else ""
    span = f" rowspan='{rows}'" if rows > 1 else ""
    return f"<th scope='{scope}'{span}{_class(css)}>{escape(text)}{second}</th>"


def row(cells: Sequence[Cell], css: str = "") -> str:
    """A row of a table."""
    return f"<tr{_class(css)}>{''.join(cells)}</tr>"


def table(columns: Sequence[Cell], rows: Sequence[str], label: str, css: str = "") -> str:
    """A table that scrolls inside its own box, by keyboard too."""
    return (
        f"<div class='scroll' role='region' tabindex='0' aria-label='{escape(label)}'><table{_class(css)}><thead><tr>"
        f"{''.join(columns)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def columns(*names: str, words: Sequence[str] = ()) -> list[Cell]:
    """Headings of columns; those in `words` stand to the left."""
    return [head(name, css="words" if name in words else "", scope="col") for name in names]


def folded(summary: str, body: str, small: str = "") -> str:
    """A part that opens when asked."""
    second = f" <small>{escape(small)}</small>" if small else ""
    return f"<details><summary>{escape(summary)}{second}</summary>{body}</details>"


def figure(
    title: str,
    panels: Sequence[str],
    note: str = "",
    legend: Sequence[tuple[str, str]] = (),
    width: int = 340,
) -> str:
    """Plots under one title, in as many columns of at least `width` pixels as fit.

    Args:
        title: says what is shown.
        panels: from `titled`, or SVG.
        note: how to read it.
        legend: (sample from `svg.key`, plain text) per series.
        width: least width of a column, CSS pixels; a narrower screen gets one column.

    """
    drawn = list(panels)
    keys = "".join(f"<li>{sample}{escape(name)}</li>" for sample, name in legend)
    body = (
        f"<div class='panels{' many' if width < 300 else ''}' style='--w:{width}px'>"
        + "".join(p if p.startswith("<div") else f"<div class='panel'>{p}</div>" for p in drawn)
        + "</div>"
        if drawn
        else "<p class='soft'>Nothing to draw.</p>"
    )
    return (
        f"<figure><figcaption><strong>{escape(title)}</strong>"
        + (f"<span>{escape(note)}</span>" if note else "")
        + "</figcaption>"
        + (f"<ul class='legend'>{keys}</ul>" if keys and drawn else "")
        + f"{body}</figure>"
    )


def titled(title: str, svg: str, small: str = "") -> str:
    """One plot of several, with its own title."""
    second = f" <small>{escape(small)}</small>" if small else ""
    return f"<div class='panel'><h4>{escape(title)}{second}</h4>{svg}</div>"


def plain(value: object) -> str:
    """A setting or a count as people write it; nested ones in one line."""
    if value is None:
        return DASH
    if isinstance(value, dict):
        return " · ".join(f"{name} {plain(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _class(css: str) -> str:
    return f" class='{css}'" if css else ""


__all__ = [
    "Cell", "cell", "columns", "facts", "figure", "folded", "glossary", "head", "key", "page", "paragraph", "plain",
    "row", "table", "titled",
]  # fmt: skip
