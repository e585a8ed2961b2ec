"""The page of the release gate: the verdict in words, the figures of both versions, their differences."""

from __future__ import annotations

from html import escape
from typing import Any

from matplotlib.axes import Axes

from pipelines.core.report.calibration_plot import calibration
from pipelines.core.report.page import (
    cell,
    columns,
    facts,
    figure,
    folded,
    glossary,
    head,
    page,
    paragraph,
    plain,
    row,
    table,
    titled,
)
from pipelines.core.report.svg import key, panel, plain_ticks
from pipelines.core.report.theme import AHEAD, BEHIND, INK, PAGE, SOFT, Look
from pipelines.core.report.wording import DASH, between, finite, number, signed

__all__ = ["render_release"]

_SLICES = {
    "warm": ("known items", "users the version in service knows; candidates: items that had behaviour in it, without "
             "what the user had"),
    "cold": ("cold items", "the same users; candidates: items that had none there, or that it does not have at all"),
    "new_users": ("new users", "users it does not know, asked with their own words alone; candidates: every item that "
                  "may be shown"),
}  # fmt: skip
_TOO_FEW = "too few to tell"
_WORDS = (
    ("in service", "the published version as it answers today, with new items placed by their texts"),
    ("rebuilt", "the same settings as the rebuild, fitted on what the version in service has seen, served likewise"),
    ("allowed", "the least difference that the margin lets pass; refused where the whole interval lies below it"),
    ("calibration gap", "how far cold and known items of one score are apart in how often they are wanted, as a share "
     "of how often all listed items are; 0: a score means the same for both"),
)  # fmt: skip


def render_release(report: dict[str, Any]) -> str:
    """HTML of what `OUT/release/report.json` holds."""
    passed, slices = bool(report["passed"]), report.get("slices") or {}
    title = "The rebuild may go into service" if passed else "The rebuild is refused"
    mark = "<b class='ahead'>▲ passed</b>" if passed else "<b class='behind'>▼ refused</b>"
    told = [_SLICES[name][0] for name, found in slices.items() if found["is_told"]]
    lead = f"Compared with {report['version']} on {', '.join(told) or 'nothing that tells'}."
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='lead'>{mark} {escape(lead)}</p>",
        _lines(report["reasons"]),
        *(paragraph(note, "notice") for note in report.get("notes") or []),
        _facts(report),
    ]
    if slices:
        body += [
            "<h2>Figures of both</h2>",
            _figures(slices),
            "<h2>Differences</h2>",
            _dots(slices, report["settings"]["confidence"]),
            "<h2>Cold items and calibration</h2>",
            _beside(report),
            calibration([(name, curves) for name, curves in _curves(report)]),
        ]
    meanings = [(title_, meaning) for title_, meaning in _SLICES.values()]
    body += [
        folded("Settings of the gate", facts([(n, plain(v)) for n, v in report["settings"].items()])),
        "<h2>What the words mean</h2>" + glossary([*_WORDS, *meanings]),
    ]
    return page(f"Kindling: release, {'passed' if passed else 'refused'}", body)


def _lines(reasons: list[str]) -> str:
    if not reasons:
        return paragraph("Nothing that was measured is surely worse than the margins allow.")
    return "<ul class='lines'>" + "".join(f"<li>{escape(reason)}</li>" for reason in reasons) + "</ul>"


def _facts(report: dict[str, Any]) -> str:
    newest, encoders = report["newest"], report["encoders"]
    return facts(
        [
            ("in service", report["version"]),
            ("its encoder", f"{encoders['incumbent']['model']} {encoders['incumbent']['fingerprint']}"),
            ("encoder of the rebuild", f"{encoders['candidate']['model']} {encoders['candidate']['fingerprint']}"),
            ("pairs it has not seen", plain(newest["pairs"])),
            ("of them wanted", plain(newest["wanted"])),
            ("items it could not take in", plain(report["not_placed"]) if report.get("not_placed") else ""),
        ]
    )  # fmt: skip


def _verdict(is_told: bool, found: dict[str, Any]) -> tuple[str, str]:
    """Words and CSS class; what is surely better says so."""
    if not is_told:
        return f"{DASH} {_TOO_FEW}", "unknown"
    if not found["passed"]:
        return "▼ refused", "behind"
    interval = found.get("interval")
    return (
        ("▲ clearly better", "ahead") if interval and interval[0] > 0 else ("≈ not surely worse", "unclear")
    )


def _figures(slices: dict[str, Any]) -> str:
    rows = []
    for name, found in slices.items():
        users = f"{found['users']:,} users, {found['candidates']:,} items"
        if not found["metrics"]:
            nothing = [cell(DASH) for _ in range(4)]
            rows.append(
                row([head(_SLICES[name][0], users), cell(DASH, css="words"),
                     cell(f"{DASH} {_TOO_FEW}", css="words unknown"), *nothing])
            )  # fmt: skip
        for place, (metric, pair) in enumerate(found["metrics"].items()):
            first = [] if place else [head(_SLICES[name][0], users, rows=len(found["metrics"]))]
            words, css = _verdict(found["is_told"], pair)
            cells = [
                cell(metric, css="words"), cell(words, css=f"words {css}"), cell(number(pair["incumbent"])),
                cell(number(pair["candidate"]), css="own"),
                cell(signed(pair["difference"]), between(pair["interval"], sign=True), css),
                cell(signed(pair["least"])),
            ]  # fmt: skip
            rows.append(row([*first, *cells], "" if place else "next"))
    names = ("slice", "metric", "verdict", "in service", "rebuilt", "difference", "allowed")
    return table(columns(*names, words=("metric", "verdict")), rows, "Figures of both versions", "verdict")


def _dots(slices: dict[str, Any], confidence: float) -> str:
    """A panel per metric: the difference of each slice with its interval, beside what is allowed."""
    metrics = dict.fromkeys(m for found in slices.values() for m in found["metrics"])
    panels = []
    for metric in metrics:
        known = {n: (f["is_told"], f["metrics"][metric]) for n, f in slices.items() if f["metrics"]}
        panels.append(titled(metric, _panel(metric, known)))
    return figure(
        "How far the rebuild is from the version in service",
        panels,
        f"Right of zero: the rebuild is better. Lines are {100 * confidence:g} % intervals; the tick is what is "
        "allowed.",
        [
            (key(Look(AHEAD, "o", ""), line=False), "clearly better"),
            (key(Look(SOFT, "o", ""), line=False), "not surely worse"),
            (key(Look(BEHIND, "o", ""), line=False), "refused"),
            (key(Look(SOFT, "o", ""), line=False, hollow=True), _TOO_FEW),
        ],
        width=400,
    )


def _panel(metric: str, known: dict[str, tuple[bool, dict[str, Any]]]) -> str:
    colors = {"ahead": AHEAD, "behind": BEHIND, "unclear": SOFT, "unknown": SOFT}

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.9)
        for place, (is_told, pair) in enumerate(known.values()):
            color = colors[_verdict(is_told, pair)[1]]
            axes.hlines(place, *pair["interval"], color=color, linewidth=1.8)
            axes.plot([pair["least"]], [place], "|", color=INK, markersize=11)
            face = color if is_told else PAGE
            axes.plot([pair["difference"]], [place], "o", color=color, markerfacecolor=face, markersize=6)
        axes.set_yticks(range(len(known)), [_SLICES[name][0] for name in known])
        axes.set_ylim(len(known) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"difference in {metric}, rebuilt − in service (absolute)")
        plain_ticks(axes, "x")

    said = "; ".join(
        f"{_SLICES[name][0]} {signed(pair['difference'])} {between(pair['interval'], sign=True)}"
        for name, (_, pair) in known.items()
    )
    return panel(f"Differences in {metric}: {said}", 410, 72 + 23 * len(known), paint)


def _beside(report: dict[str, Any]) -> str:
    """Cold coverage and calibration, a row each."""
    covered, calibrated = report["cold_coverage"], report["calibration"]
    rows = []
    for title, found, bound in (
        ("cold items listed to anybody (share)", covered, f"at least {number(covered['least'])}"),
        ("calibration gap (less is better)", calibrated, f"may grow by {number(calibrated['most'])}"),
    ):
        words, css = ("≈ kept", "unclear") if found["is_told"] else (f"{DASH} {_TOO_FEW}", "unknown")
        if not found["passed"]:
            words, css = "▼ refused", "behind"
        a, b = finite(found.get("incumbent")), finite(found.get("candidate"))
        difference = None if a is None or b is None else b - a
        interval = found.get("interval")
        rows.append(
            row([head(title), cell(words, css=f"words {css}"), cell(number(a)), cell(number(b), css="own"),
                 cell(signed(difference), between(interval, sign=True) if interval else ""), cell(bound)])
        )  # fmt: skip
    names = ("what", "verdict", "in service", "rebuilt", "difference", "allowed")
    return table(columns(*names, words=("verdict",)), rows, "Cold coverage and calibration")


def _curves(report: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    found = report["calibration"].get("curves") or {}
    return [("in service", found.get("incumbent")), ("rebuilt", found.get("candidate"))]
