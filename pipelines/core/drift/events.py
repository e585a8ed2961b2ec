"""What people did: how much, on what, and whether the same people did the same things before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core.drift.findings import Comparison, Findings, percent
from pipelines.core.drift.matching import Match
from pipelines.core.drift.measures import divergence, histogram, stability_index
from pipelines.core.drift.sources import Source

IntArray = npt.NDArray[np.int64]
_TOP = 0.01
"""Share of the items that counts as the most touched ones."""


def compare_amounts(found: Comparison, before: Source, after: Source) -> None:
    """Rows of the tables: how many there are, and how many were of no use."""
    findings = found.group("events")
    findings.rise("rejected", (_rejected(before), _rejected(after)), "of all rows were rejected")
    old, new = (s.counts.get("interactions", {}).get("kept", 0) for s in (before, after))
    counts = (float(old), float(new))
    if not old:
        for name in ("interactions_lost", "interactions_gained"):
            findings.add(name, "count", "share", counts, None, "There were no interactions before.")
        return
    change = new / old - 1
    lost, gained = max(0.0, -change), max(0.0, change)
    says = f"There are {new:,} interactions; before: {old:,}."
    findings.add("interactions_lost", "count", "share lost", counts, lost, says)
    findings.add("interactions_gained", "count", "share gained", counts, gained, says)


def compare_behaviour(found: Comparison, before: Source, after: Source, items: Match, users: Match) -> None:
    """How the pairs of users and items fall on both; of two builds that are fitted on the same kind of slice."""
    findings = found.group("events")
    if before.model != after.model or not before.history.nnz or not after.history.nnz:
        why = (
            "One of the builds has no interactions." if before.model == after.model
            else "One build is fitted on all rows and the other on the training slice: they cannot be compared."
        )  # fmt: skip
        for name in ("pairs_per_user", "histories_lost", "popularity", "top_item", "top_items", "top_user"):
            findings.add(name, "share", "not compared", (None, None), None, why)
        return
    amounts = [np.diff(s.history.indptr).astype(np.float64) for s in (before, after)]
    active = [n[n > 0] for n in amounts]
    mean = [float(n.mean()) for n in active]
    says = f"A user who did anything has touched {mean[1]:.1f} items; before: {mean[0]:.1f}."
    distance = stability_index(active[0], active[1])
    findings.add("pairs_per_user", "number", "stability index", (mean[0], mean[1]), distance, says)
    found.histograms["items a user has touched"] = histogram(active[0], active[1])
    _compare_histories(findings, before, after, items, users)
    _compare_items(findings, before, after, items)
    _compare_top(findings, before, after)


def _compare_histories(findings: Findings, before: Source, after: Source, items: Match, users: Match) -> None:
    """Of what users did before with items that are still there, how much they still have done."""
    old_rows, new_rows = users.common
    rows, columns = before.history[old_rows].nonzero()
    there = items.to_after[columns] >= 0
    old = rows[there].astype(np.int64) * items.n_after + items.to_after[columns[there]]
    rows, columns = after.history[new_rows].nonzero()
    if not len(old):
        says = "No user of before is there with an item of before."
        findings.add("histories_lost", "share", "share lost", (None, None), None, says)
        return
    kept = np.isin(old, rows.astype(np.int64) * items.n_after + columns).mean()
    says = f"{percent(float(kept))} of what users did before is still on record for the same users."
    findings.add("histories_lost", "share", "share lost", (1.0, float(kept)), 1 - float(kept), says)


def _compare_items(findings: Findings, before: Source, after: Source, items: Match) -> None:
    old, new = before.item_counts, after.item_counts
    gone = items.to_after < 0
    # one place per item of either build: those of the later one, then those that are gone
    aligned = np.zeros(items.n_after + int(gone.sum()), dtype=np.int64)
    aligned[items.to_after[~gone]] = old[~gone]
    aligned[items.n_after :] = old[gone]
    distance = divergence(aligned, np.concatenate([new, np.zeros(int(gone.sum()), dtype=np.int64)]))
    says = "How interactions fall on items: 0 is exactly as before, 1 has nothing in common with it."
    findings.add("popularity", "number", "Jensen-Shannon, bits", (None, None), distance, says)


def _compare_top(findings: Findings, before: Source, after: Source) -> None:
    """By weight: few who come again and again weigh as much as many who come once."""
    weights = [_weights(s.history, 0) for s in (before, after)]
    shares = [w / w.sum() for w in weights]
    top = after.item_ids[int(shares[1].argmax())].as_py()
    largest = (float(shares[0].max()), float(shares[1].max()))
    findings.rise("top_item", largest, f"of all that was done, by weight, was with one item (now {top!r})")
    most = [float(np.sort(s)[-max(round(_TOP * len(s)), 1) :].sum()) for s in shares]
    findings.rise(
        "top_items", (most[0], most[1]), "of all that was done was with the most touched 1 % of the items"
    )
    busiest = [float(w.max() / w.sum()) for w in (_weights(s.history, 1) for s in (before, after))]
    findings.rise("top_user", (busiest[0], busiest[1]), "of all that was done was done by the busiest user")


def _weights(history: sp.csr_matrix, axis: int) -> npt.NDArray[np.float64]:
    """Sums of absolute weights: (I,) with axis 0, (U,) with axis 1."""
    return np.asarray(abs(history).sum(axis=axis), dtype=np.float64).ravel()


def _rejected(source: Source) -> float | None:
    read = sum(counts["read"] for counts in source.counts.values())
    return sum(counts.get("rejected", 0) for counts in source.counts.values()) / read if read else None
