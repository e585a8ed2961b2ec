"""Whether a rebuild may take the place of the version in service: who is asked for what, and the verdict.

Dimensions: n users of a slice, p pairs, k list length, U users and I items of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core.config import ReleaseConfig
from pipelines.core.diagnostics import Binned, calibration_gap, curves
from pipelines.core.ids import drawn
from pipelines.core.intervals import bootstrap_means, jackknife_interval, percentile_interval
from pipelines.core.metrics import coverage, list_metrics

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Figures = dict[str, Any]

SliceName = Literal["warm", "cold", "new_users", "all"]
JUDGED: tuple[SliceName, ...] = ("warm", "cold", "new_users")
"""Slices whose figures may refuse a release; `all` is for the calibration."""
METRICS = ("ndcg", "recall")
SAID = {"warm": "known items", "cold": "cold items", "new_users": "new users", "all": "all items"}
_AT_ONCE = 256
_GROUPS = 20


@dataclass(frozen=True)
class Circumstances:
    """What the version in service knows of who and what is in the tables.

    Attributes:
        knows_user: (U,).
        has_words: (U,) whether somebody it does not know says something of themselves.
        has_behaviour: (I,) whether interactions have a part in how it places an item; not of items it lacks.
        is_shown: (I,) whether the tables let an item be shown.

    """

    knows_user: BoolArray
    has_words: BoolArray
    has_behaviour: BoolArray
    is_shown: BoolArray


@dataclass(frozen=True)
class Questions:
    """One slice: users, what they want that nobody knew, and the items that both versions choose from.

    Attributes:
        users: (n,) rows, rising.
        relevant: (n, I) nonzero where wanted.
        candidates: rows of items.

    """

    users: IntArray
    relevant: sp.csr_matrix
    candidates: IntArray


@dataclass(frozen=True)
class Lists:
    """What a version answers to the users of a slice.

    Attributes:
        items: (n, k) rows, -1 for an empty place.
        scores: (n, k), NaN for an empty place.

    """

    items: IntArray
    scores: FloatArray

    @classmethod
    def of(cls, answers: Sequence[tuple[Sequence[int], Sequence[float]]], k: int) -> Lists:
        """Rows and scores of each user, best first, at most k."""
        items = np.full((len(answers), k), -1, dtype=np.int64)
        scores = np.full((len(answers), k), np.nan, dtype=np.float32)
        for n, (rows, values) in enumerate(answers):
            items[n, : len(rows)], scores[n, : len(rows)] = rows, values
        return cls(items, scores)


@dataclass(frozen=True)
class Verdict:
    """What became of it.

    Attributes:
        passed: whether nothing speaks against it.
        reasons: what does, a sentence each.
        figures: what they rest on, see docs/metrics.md.

    """

    passed: bool
    reasons: list[str]
    figures: Figures


def make_questions(
    user: IntArray,
    item: IntArray,
    known: Circumstances,
    hashes: npt.NDArray[np.uint64],
    settings: ReleaseConfig,
) -> dict[SliceName, Questions]:
    """Who is asked; a slice may have nobody.

    Args:
        user: (p,) of wanted pairs that the version in service has not seen.
        item: (p,) likewise.
        known: to it.
        hashes: (U,) `hash_ids` of the users.
        settings: how many, and which.

    """
    n_items = len(known.is_shown)
    is_cold, by_known = ~known.has_behaviour, known.knows_user[user]
    within: dict[SliceName, tuple[BoolArray, BoolArray]] = {
        "warm": (by_known, ~is_cold),
        "cold": (by_known, is_cold),
        "new_users": (~by_known & known.has_words[user], np.ones(n_items, dtype=bool)),
        "all": (by_known, np.ones(n_items, dtype=bool)),
    }
    found: dict[SliceName, Questions] = {}
    for name, (by_whom, of_what) in within.items():
        of_what = of_what & known.is_shown  # noqa: PLW2901
        mine = by_whom & of_what[item]
        users = np.unique(user[mine])
        users = users[drawn(hashes[users], settings.max_users, settings.seed)]
        mine &= np.isin(user, users)
        row = np.searchsorted(users, user[mine])
        wanted = sp.csr_matrix((np.ones(len(row)), (row, item[mine])), shape=(len(users), n_items))
        found[name] = Questions(users, wanted, np.flatnonzero(of_what))
    return found


def judge(
    questions: Mapping[SliceName, Questions],
    incumbent: Mapping[SliceName, Lists],
    candidate: Mapping[SliceName, Lists],
    is_cold: BoolArray,
    k: int,
    settings: ReleaseConfig,
) -> Verdict:
    """Set what both answered side by side.

    Args:
        questions: by slice.
        incumbent: answers of the version in service.
        candidate: of what would take its place.
        is_cold: (I,) items without behaviour in the version in service.
        k: list length.
        settings: when it is refused.

    """
    reasons: list[str] = []
    slices: dict[str, Figures] = {}
    for name in JUDGED:
        asked = questions[name]
        slices[name] = {"users": len(asked.users), "candidates": len(asked.candidates)} | _compare(
            name, asked, incumbent[name], candidate[name], k, settings, reasons
        )
    covered = _coverage(questions["cold"], incumbent["cold"], candidate["cold"], settings, reasons)
    calibrated = _calibration(
        questions["all"], (incumbent["all"], candidate["all"]), is_cold, settings, reasons
    )
    figures = {"k": k, "slices": slices, "cold_coverage": covered, "calibration": calibrated}
    return Verdict(not reasons, reasons, figures)


def list_figures(lists: Lists, relevant: sp.csr_matrix, k: int) -> dict[str, DoubleArray]:
    """Of each user, such as "recall@20" to (n,); a few users at a time, and of the items only those that count."""
    found: dict[str, list[DoubleArray]] = {f"{m}@{k}": [] for m in METRICS}
    for start in range(0, len(lists.items), _AT_ONCE):
        listed, part = lists.items[start : start + _AT_ONCE], relevant[start : start + _AT_ONCE]
        columns = np.union1d(listed[listed >= 0], part.indices)
        top = np.where(listed >= 0, np.searchsorted(columns, listed), -1)
        narrow = sp.csr_matrix(
            (part.data, np.searchsorted(columns, part.indices), part.indptr), (len(listed), len(columns))
        )
        values = list_metrics(top, narrow, (k,))
        for name, blocks in found.items():
            blocks.append(values[name])
    return {name: np.concatenate([np.zeros(0), *blocks]) for name, blocks in found.items()}


def _compare(
    name: SliceName, asked: Questions, incumbent: Lists, candidate: Lists, k: int, settings: ReleaseConfig,
    reasons: list[str],
) -> Figures:  # fmt: skip
    """Figures of a slice by metric; adds to the reasons what is surely worse than the margin allows."""
    is_told = len(asked.users) >= settings.min_users
    found: Figures = {"is_told": is_told, "metrics": {}}
    if not len(asked.users):
        return found
    before, after = (list_figures(lists, asked.relevant, k) for lists in (incumbent, candidate))
    differences = np.stack([after[m] - before[m] for m in before], axis=1)
    means = bootstrap_means(differences, settings.resamples, settings.seed)
    for column, metric in enumerate(before):
        a, b = float(before[metric].mean()), float(after[metric].mean())
        low, high = percentile_interval(means[:, column], settings.confidence)
        is_refused = is_told and high < -settings.margin * a
        found["metrics"][metric] = {
            "incumbent": a, "candidate": b, "difference": b - a, "interval": [low, high],
            "least": -settings.margin * a, "passed": not is_refused,
        }  # fmt: skip
        if is_refused:
            reasons.append(
                f"{SAID[name]}, {metric}: {b:.4f} where the version in service has {a:.4f}; the difference is "
                f"{b - a:+.4f}, {_surely(settings)} between {low:+.4f} and {high:+.4f}, and "
                f"{-settings.margin * a:+.4f} is allowed (release.margin)."
            )
    return found


def _surely(settings: ReleaseConfig) -> str:
    return f"with {100 * settings.confidence:g} % confidence"


def _coverage(
    asked: Questions, incumbent: Lists, candidate: Lists, settings: ReleaseConfig, reasons: list[str]
) -> Figures:
    """Share of the cold items that are listed to anybody."""
    is_told = len(asked.users) >= settings.min_users
    a, b = (_covered(lists, asked.candidates) for lists in (incumbent, candidate))
    least = settings.cold_coverage * a
    is_refused = is_told and b < least
    if is_refused:
        reasons.append(
            f"cold items that are listed to anybody: {b:.1%} where the version in service lists {a:.1%}; at least "
            f"{least:.1%} is expected (release.cold_coverage)."
        )
    return {"is_told": is_told, "incumbent": a, "candidate": b, "least": least, "passed": not is_refused}


def _covered(lists: Lists, candidates: IntArray) -> float:
    return coverage(np.isin(candidates, lists.items).astype(np.float64))


def _calibration(
    asked: Questions, both: tuple[Lists, Lists], is_cold: BoolArray, settings: ReleaseConfig, reasons: list[str]
) -> Figures:  # fmt: skip
    """How much further apart cold and known items of one score are than in the version in service."""
    n, found = len(asked.users), Figures({"is_told": False, "passed": True, "most": settings.calibration})
    if n < settings.min_users or not all((lists.items >= 0).any() for lists in both):
        return found
    group = np.random.default_rng(settings.seed).permutation(n) % min(_GROUPS, n)
    (a, without_a, curves_a), (b, without_b, curves_b) = (
        _gaps(lists, asked, is_cold, group) for lists in both
    )
    found |= {"incumbent": a, "candidate": b, "curves": {"incumbent": curves_a, "candidate": curves_b}}
    pairs = [(x, y) for x, y in zip(without_a, without_b, strict=True) if x is not None and y is not None]
    if a is None or b is None or len(pairs) < len(without_a):
        return found
    low, high = jackknife_interval(b - a, np.array([y - x for x, y in pairs]), settings.confidence)
    is_refused = low > settings.calibration
    if is_refused:
        reasons.append(
            f"calibration: cold and known items of one score are {b:.2f} of the mean rate apart in how often they are "
            f"wanted, {a:.2f} in the version in service; it grows by {b - a:+.2f}, {_surely(settings)} between "
            f"{low:+.2f} and {high:+.2f}, and {settings.calibration:+.2f} is allowed (release.calibration)."
        )
    return found | {
        "is_told": True, "difference": b - a, "interval": [low, high], "passed": not is_refused,
    }  # fmt: skip


def _gaps(
    lists: Lists, asked: Questions, is_cold: BoolArray, group: IntArray
) -> tuple[float | None, list[float | None], dict[str, dict[str, list[float]]]]:
    """The gap, what it is without each group of users, and the curves."""
    row, place = np.nonzero(lists.items >= 0)
    item = lists.items[row, place]
    hit = np.asarray(asked.relevant[row, item]).ravel() > 0
    binned = Binned.of(lists.scores[row, place], hit, is_cold[item])
    total = binned.counts(np.ones(len(row), dtype=bool))
    without = [calibration_gap(total - binned.counts(group[row] == g)) for g in range(int(group.max()) + 1)]
    return calibration_gap(total), without, curves(binned)
