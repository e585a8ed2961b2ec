"""The figures as one HTML page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import scipy.sparse as sp

from pipelines.core.measure import SLICES, measure_block, summarize
from pipelines.core.report import render_report

VOID = {"meta", "br"}


class _Page(HTMLParser):
    """Checks that tags nest, and keeps the text of each table cell and whether anything is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data


def parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    assert not page.open
    assert not page.fetched
    return page


def evaluation(ks: tuple[int, ...], resamples: int, n_users: int = 12) -> dict[str, Any]:
    """Figures of two models in the form the evaluate stage writes; the cold slice has no users."""
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {"intervals": {}, "users": {}}
    for which in ("validation", "test"):
        result[which], result["intervals"][which] = {}, {}
        for model in ("kindling", "a <b> & c"):
            figures, bounds = {}, {}
            for name in SLICES:
                relevant = sp.csr_matrix(
                    (rng.random((n_users, 30)) < (0 if name == "cold" else 0.5)).astype(float)
                )
                block = measure_block(
                    rng.random((n_users, 4)),
                    rng.random((30, 4)),
                    relevant,
                    sp.csr_matrix((n_users, 30)),
                    np.arange(30),
                    ks,
                )
                figures[name], bounds[name] = summarize(block, resamples, 0)
            result[which][model], result["intervals"][which][model] = figures, bounds
        result["users"][which] = {name: 0 if name == "cold" else n_users for name in SLICES}
    return result


def test_every_model_slice_and_interval_is_shown() -> None:
    figures = evaluation((10, 20, 25), 30)
    html = render_report(figures)
    page = parse(html)
    heads = [row for row in page.cells if row[0] == "model"]
    assert len(heads) == 6
    assert heads[0] == [
        "model", "recall@20", "recall@10", "ndcg@10", "recall@20", "ndcg@20", "coverage@10", "coverage@20",
    ]  # fmt: skip
    assert [row[0].strip() for row in page.cells[:3]] == ["model", "kindling", "a <b> & c"]
    assert page.cells[1][2:] == ["–"] * 6  # the cold slice of test comes first
    warm = page.cells[4]
    low, high = figures["intervals"]["test"]["kindling"]["warm"]["recall@20"]
    assert warm[4] == f"{figures['test']['kindling']['warm']['recall@20']:.4f}{low:.4f}–{high:.4f}"
    assert html.index("<h2>Test") < html.index("<h2>Validation")
    assert "12 users" in html


def test_other_list_lengths_and_no_intervals() -> None:
    figures = evaluation((3,), 0)
    page = parse(render_report(figures))
    assert page.cells[0] == ["model", "recall@3", "recall@3", "ndcg@3", "coverage@3"]
    assert page.cells[4][2] == f"{figures['test']['kindling']['warm']['recall@3']:.4f}"


def test_no_user_at_all() -> None:
    page = parse(render_report(evaluation((10,), 10, n_users=0)))
    assert all(cell == "–" for row in page.cells if row[0] != "model" for cell in row[2:])
