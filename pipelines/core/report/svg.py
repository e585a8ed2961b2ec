"""A matplotlib figure as SVG inside a page: no global state, no date, ink that follows the page's colours."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pipelines.core.report.theme import CSS_OF, INK, LINE, PAGE, SOFT, Look

__all__ = ["figure_svg", "key", "look", "panel", "plain_ticks", "wide_axis"]

_PIXELS_PER_INCH = 96
_POINTS_TO_PIXELS = 4 / 3
_WIDE = 30
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # words stay words: the browser's fonts, Chinese included
    "svg.hashsalt": "kindling",  # ids repeat from run to run
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout on every machine
    "font.size": 8.6,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": INK, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.color": LINE, "ytick.color": LINE, "axes.edgecolor": LINE, "axes.facecolor": "none",
    "figure.facecolor": "none", "grid.color": LINE, "grid.linewidth": 0.6, "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.5,
    "lines.markersize": 5.5, "lines.color": INK, "patch.edgecolor": LINE, "axes.labelsize": 8.6,
}  # fmt: skip
_SVG = "{http://www.w3.org/2000/svg}"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family: [^;]*;? ?")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_DOT = re.compile(r"M ?(\S+ \S+) L ?\1(?= M|$)")


def look() -> AbstractContextManager[None]:
    """The settings under which a figure must be both made and written; undone on leaving."""
    return mpl.rc_context(cast("dict[Any, Any]", _SETTINGS))


def panel(label: str, width: int, height: int, paint: Callable[[Axes], None]) -> str:
    """One plot of `width` by `height` CSS pixels as inline SVG; `label` is what a screen reader says."""
    with look():
        figure = Figure(figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        return figure_svg(figure, label)


def figure_svg(figure: Figure, label: str = "") -> str:
    """Inline SVG of a figure made under `look()` with the placeholder colours of `theme`.

    Same figure, same bytes. Ids carry a hash of the drawing, so that several figures can stand in one page.
    """
    text = io.StringIO()
    with look(), warnings.catch_warnings():
        # the browser has the glyphs that matplotlib's own font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(text.getvalue())  # noqa: S314 - written by matplotlib a line above
    prefix = hashlib.blake2b((label + text.getvalue()).encode(), digest_size=4).hexdigest()
    _drop_unused(root)
    for element in root.iter():
        _rewrite(element, prefix)
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    root.attrib |= {
        "width": f"{width * _POINTS_TO_PIXELS:.0f}", "height": f"{height * _POINTS_TO_PIXELS:.0f}",
        "class": "plot", "role": "img", "aria-label": label,
    }  # fmt: skip
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _drop_unused(root: ET.Element) -> None:
    """Remove metadata, ids nobody refers to, and the style element, which would reach the whole page."""
    used = {r for e in root.iter() for v in e.attrib.values() for r in _REFERENCE.findall(v)}
    used |= {v[1:] for e in root.iter() for a, v in e.attrib.items() if a.endswith("href")}
    for element in root.iter():
        for child in list(element):
            if child.tag in (_SVG + "metadata", _SVG + "style"):
                element.remove(child)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    root.attrib.pop("version", None)


def _rewrite(element: ET.Element, prefix: str) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    if element.tag not in ("text", "tspan"):
        element.text = None  # indentation
    element.tail = None
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name, value in list(element.attrib.items()):
        if name.endswith("href"):
            del element.attrib[name]
            element.set("href", f"#{prefix}{value[1:]}")
        elif name == "id":
            element.set("id", prefix + value)
        elif name == "d":
            element.set("d", _DOT.sub(r"M\1h0", " ".join(_shorten(value).split())))
        elif name == "style":
            element.set("style", _themed(value))
        else:
            element.set(name, _REFERENCE.sub(rf"url(#{prefix}\1)", _shorten(value)))


def _themed(style: str) -> str:
    style = _FONT.sub("", style)
    for color, variable in CSS_OF.items():
        style = style.replace(color, variable)
    return style


def _shorten(numbers: str) -> str:
    """A tenth of a point is less than anybody sees."""
    return _LONG_NUMBER.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), numbers)


def plain_ticks(axes: Axes, which: str, bins: int = 5) -> None:
    """At most `bins` ticks on the "x" or "y" axis, written as people write numbers: no offsets, no powers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def wide_axis(axes: Axes, which: str, values: Sequence[float]) -> bool:
    """A logarithmic axis where positive values span more than a decade and a half, else a plain one; says whether."""
    if not values or min(values) <= 0 or max(values) <= _WIDE * min(values):
        plain_ticks(axes, which)
        return False
    getattr(axes, f"set_{which}scale")("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    return True


def key(style: Look, *, line: bool = True, hollow: bool = False, bar: bool = False) -> str:
    """The sample of a series that stands in a legend, as inline SVG."""
    color = CSS_OF[style.color]
    if bar:
        drawn = f'<rect x="2" y="2" width="20" height="8" style="fill:{color}"/>'
    else:
        dash = {
            "--": ' stroke-dasharray="5 2"',
            "-.": ' stroke-dasharray="6 2 2 2"',
            ":": ' stroke-dasharray="2 2"',
        }
        stroke = f'<path d="M0 6H24" style="stroke:{color};stroke-width:2"{dash.get(style.dash, "")}/>'
        drawn = (stroke if line else "") + _polygon(style.marker, CSS_OF[PAGE] if hollow else color, color)
    return f'<svg class="key" width="24" height="12" viewBox="0 0 24 12" aria-hidden="true">{drawn}</svg>'


def _polygon(marker: str, fill: str, stroke: str) -> str:
    """Matplotlib's own outline of a marker; nothing for the marker "None"."""
    shape = MarkerStyle(marker)
    outlines = shape.get_path().transformed(shape.get_transform()).to_polygons()
    if not outlines:
        return ""
    corners = np.asarray(outlines[0], dtype=np.float64) * (8, -8) + (12, 6)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polygon points="{points}" style="fill:{fill};stroke:{stroke}"/>'
