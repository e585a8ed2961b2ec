"""Colours, markers and dashes: one look per model on every plot, readable in light, in dark and without colour.

Matplotlib knows no CSS variables, so each colour here is a placeholder in the drawing; `svg` exchanges it for the
page's variable. The hues follow Okabe and Ito's colour-blind-safe set, darkened or lightened per scheme.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

INK, SOFT, LINE, PAGE, MARK, AHEAD, BEHIND = (f"#a0000{i}" for i in range(1, 8))
_SERIES = tuple(f"#a0010{i}" for i in range(8))

CSS_OF = {
    INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAGE: "var(--page)", MARK: "var(--mark)",
    AHEAD: "var(--ahead)", BEHIND: "var(--behind)",
    **{color: f"var(--s{i})" for i, color in enumerate(_SERIES)},
}  # fmt: skip
"""Placeholder colour -> CSS variable; nothing else may be used as a colour in a figure."""

LIGHT = {
    "ink": "#1d2330", "soft": "#5b6476", "line": "#d5dae4", "page": "#ffffff", "panel": "#f5f7fa", "mark": "#0067a6",
    "ahead": "#00705a", "behind": "#a81b57",
    "s0": "#d55e00", "s1": "#6b7280", "s2": "#0072b2", "s3": "#00855f", "s4": "#a04f8c", "s5": "#5646b0",
    "s6": "#8a6a00", "s7": "#14808f",
}  # fmt: skip
DARK = {
    "ink": "#e6e9f0", "soft": "#a3acbd", "line": "#363d4b", "page": "#14171d", "panel": "#1b1f27", "mark": "#62b5ee",
    "ahead": "#3ed3ab", "behind": "#ff8fb6",
    "s0": "#ff9242", "s1": "#a9b0bf", "s2": "#5db7f0", "s3": "#2cc795", "s4": "#dd9bcb", "s5": "#a99bff",
    "s6": "#dcc04a", "s7": "#5ccfdc",
}  # fmt: skip
"""The variables' values; `s0` is the emphasised colour."""

Scheme = Literal["light", "dark"]
EMPHASISED = "kindling"


@dataclass(frozen=True)
class Look:
    """How one series is drawn: a placeholder colour, a matplotlib marker and a matplotlib line style."""

    color: str
    marker: str
    dash: str


_MARKERS = "osv^DPXp"
_DASHES = ("-", "--", "-.", ":", "--", "-.", ":", "--")
_LOOKS = tuple(
    Look(color, marker, dash) for color, marker, dash in zip(_SERIES, _MARKERS, _DASHES, strict=True)
)
_KNOWN = (EMPHASISED, "popularity", "bm25", "content", "als", "als_text", "irspack", "cmfrec")

EMPHASIS = _LOOKS[0]
CONTRAST = _LOOKS[2]
"""Two looks for two builds: the newer one emphasised."""


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each model: the known ones keep theirs on every page, others take what is free.

    More than eight models share looks; the emphasised one is never shared.
    """
    wanted = list(names)
    chosen = {name: _LOOKS[_KNOWN.index(name)] for name in wanted if name in _KNOWN}
    free = [look for look in _LOOKS[1:] if look not in chosen.values()] or list(_LOOKS[1:])
    unknown = [name for name in wanted if name not in chosen]
    return chosen | {name: free[i % len(free)] for i, name in enumerate(unknown)}


def css_variables(scheme: Scheme) -> str:
    """The declarations of a colour scheme."""
    values = LIGHT if scheme == "light" else DARK
    return " ".join(f"--{name}: {value};" for name, value in values.items())
