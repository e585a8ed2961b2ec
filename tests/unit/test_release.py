"""The release gate without models: who is asked, and when a release is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core.config import ReleaseConfig
from pipelines.core.release import (
    Circumstances,
    Lists,
    Questions,
    SliceName,
    Verdict,
    judge,
    list_figures,
    make_questions,
)
from pipelines.core.report.release import render_release

IntArray = npt.NDArray[np.int64]
N, N_ITEMS, K = 120, 60, 10
COLD = np.arange(N_ITEMS) >= 40
SETTINGS = ReleaseConfig(min_users=50, resamples=400)


# ---------------------------------------------------------------- questions

KNOWN = Circumstances(
    knows_user=np.array([True, True, False, False, True]),
    has_words=np.array([False, False, True, False, False]),
    has_behaviour=np.array([True, True, False, False]),
    is_shown=np.array([True, False, True, True]),
)
HASHES = np.arange(5, dtype=np.uint64)


def wants(questions: Questions) -> dict[int, list[int]]:
    return {int(u): questions.relevant[n].indices.tolist() for n, u in enumerate(questions.users)}


def test_each_slice_asks_whom_and_for_what_it_says() -> None:
    """Item 1 is hidden, items 2 and 3 are cold; users 2 and 3 are new and 3 says nothing; user 4 wants a hidden one."""
    user, item = np.array([0, 0, 1, 2, 2, 3, 4, 1]), np.array([0, 2, 3, 0, 3, 0, 1, 2])
    found = make_questions(user, item, KNOWN, HASHES, SETTINGS)
    assert wants(found["warm"]) == {0: [0]}
    assert wants(found["cold"]) == {0: [2], 1: [2, 3]}
    assert wants(found["new_users"]) == {2: [0, 3]}
    assert wants(found["all"]) == {0: [0, 2], 1: [2, 3]}
    candidates = {name: questions.candidates.tolist() for name, questions in found.items()}
    assert candidates == {"warm": [0], "cold": [2, 3], "new_users": [0, 2, 3], "all": [0, 2, 3]}


def test_of_too_many_some_are_drawn_by_their_ids() -> None:
    n, settings = 200, SETTINGS.model_copy(update={"max_users": 30})
    known = Circumstances(np.ones(n, dtype=bool), np.zeros(n, dtype=bool), *([np.ones(1, dtype=bool)] * 2))
    hashes = np.random.default_rng(0).integers(0, 2**63, n, dtype=np.uint64)
    user, item = np.arange(n), np.zeros(n, dtype=np.int64)
    first = make_questions(user, item, known, hashes, settings)["warm"]
    order = np.random.default_rng(1).permutation(n)  # the same users elsewhere in the tables
    second = make_questions(user, item, known, hashes[order], settings)["warm"]
    assert len(first.users) == 30
    assert set(hashes[first.users]) == set(hashes[order][second.users])
    other = make_questions(user, item, known, hashes, settings.model_copy(update={"seed": 1}))["warm"]
    assert set(other.users) != set(first.users)


def test_nobody_to_ask_is_no_error() -> None:
    none = np.zeros(0, dtype=np.int64)
    found = make_questions(none, none, KNOWN, HASHES, SETTINGS)
    assert [len(questions.users) for questions in found.values()] == [0] * 4


# ---------------------------------------------------------------- figures


def test_figures_are_those_of_each_user_by_hand() -> None:
    relevant = sp.csr_matrix(np.array([[1, 0, 0, 1], [0, 1, 0, 0]]))
    lists = Lists.of([([0, 2, 3], [3.0, 2.0, 1.0]), ([2], [1.0])], 3)
    found = list_figures(lists, relevant, 3)
    np.testing.assert_allclose(found["recall@3"], [1, 0])
    best = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(found["ndcg@3"], [(1 + 0.5) / best, 0])


# ---------------------------------------------------------------- verdict


def asked(n: int = N, seed: int = 0) -> dict[SliceName, Questions]:
    """Each user wants four known and three cold items."""
    rng = np.random.default_rng(seed)
    wanted = np.zeros((n, N_ITEMS))
    for row in wanted:
        row[rng.permutation(40)[:4]] = row[40 + rng.permutation(20)[:3]] = 1
    candidates: dict[SliceName, npt.NDArray[np.bool_]] = {
        "warm": ~COLD, "cold": COLD, "new_users": np.ones(N_ITEMS, dtype=bool), "all": np.ones(N_ITEMS, dtype=bool),
    }  # fmt: skip
    return {
        name: Questions(np.arange(n), sp.csr_matrix(wanted * mask), np.flatnonzero(mask))
        for name, mask in candidates.items()
    }


def answers(questions: dict[SliceName, Questions], skill: float, seed: int = 1) -> dict[SliceName, Lists]:
    """Lists by scores that know what is wanted as far as `skill` goes."""
    found: dict[SliceName, Lists] = {}
    for name, slice_ in questions.items():
        rng = np.random.default_rng(seed)
        scores = skill * slice_.relevant.toarray() + rng.random((len(slice_.users), N_ITEMS))
        scores[:, np.setdiff1d(np.arange(N_ITEMS), slice_.candidates)] = -np.inf
        top = np.argsort(-scores, axis=1)[:, :K]
        found[name] = Lists(top, np.take_along_axis(scores, top, axis=1).astype(np.float32))
    return found


def verdict_on(
    before: dict[SliceName, Lists], after: dict[SliceName, Lists], n: int = N, settings: ReleaseConfig = SETTINGS
) -> Verdict:  # fmt: skip
    return judge(asked(n), before, after, COLD, K, settings)


def test_the_same_answers_and_better_ones_pass() -> None:
    before = answers(asked(), 0.5)
    for skill in (0.5, 0.8):
        verdict = verdict_on(before, answers(asked(), skill))
        assert (verdict.passed, verdict.reasons) == (True, [])
    figures = verdict.figures["slices"]["cold"]["metrics"][f"recall@{K}"]
    assert figures["difference"] == pytest.approx(figures["candidate"] - figures["incumbent"])
    assert figures["interval"][0] > 0


def test_surely_worse_is_refused_with_the_slice_and_the_figures() -> None:
    before = answers(asked(), 0.5)
    after = answers(asked(), 0.5) | {"cold": answers(asked(), 0.0)["cold"]}
    verdict = verdict_on(before, after)
    assert not verdict.passed
    assert len(verdict.reasons) == 2
    assert all(reason.startswith("cold items, ") for reason in verdict.reasons)
    figures = verdict.figures["slices"]["cold"]["metrics"][f"recall@{K}"]
    assert (
        f"{figures['candidate']:.4f} where the version in service has {figures['incumbent']:.4f}"
        in verdict.reasons[1]
    )
    assert figures["interval"][1] < figures["least"] == pytest.approx(-0.01 * figures["incumbent"])
    wide = SETTINGS.model_copy(update={"margin": 0.9})
    assert verdict_on(before, after, settings=wide).passed  # the same is allowed to who allows it


def test_what_may_be_chance_is_not_refused() -> None:
    before, after = answers(asked(), 0.5), answers(asked(), 0.48, seed=2)
    verdict = verdict_on(before, after)
    figures = verdict.figures["slices"]["warm"]["metrics"][f"recall@{K}"]
    assert figures["difference"] < figures["least"] < figures["interval"][1]
    assert verdict.passed


def test_few_users_tell_nothing() -> None:
    before, after = answers(asked(40), 0.9), answers(asked(40), 0.0)
    verdict = verdict_on(before, after, 40)
    assert verdict.passed
    assert not any(found["is_told"] for found in verdict.figures["slices"].values())
    assert not verdict.figures["calibration"]["is_told"]
    enough = SETTINGS.model_copy(update={"min_users": 40})
    assert not verdict_on(before, after, 40, enough).passed


def test_who_lists_few_cold_items_is_refused() -> None:
    """The same hits, and for the other places always the same items."""
    before = answers(asked(), 0.5)
    relevant = asked()["cold"].relevant.toarray()
    lists = before["cold"]
    hits = np.take_along_axis(relevant, lists.items, axis=1) > 0
    few = np.where(hits & (lists.items < 50), lists.items, -1)
    after = before | {"cold": Lists(few, lists.scores)}
    verdict = verdict_on(before, after)
    covered = verdict.figures["cold_coverage"]
    assert (covered["incumbent"], covered["candidate"], covered["least"]) == (1.0, 0.5, 0.9)
    assert any("cold items that are listed to anybody: 50.0%" in reason for reason in verdict.reasons)
    half = SETTINGS.model_copy(update={"cold_coverage": 0.5})
    assert verdict_on(before, after, settings=half).figures["cold_coverage"]["passed"]


def lists_of_all(hits_of_cold: float, n: int = 400) -> tuple[Questions, Lists]:
    """Five known and five cold items a list, of any score; a fifth of the known ones is right."""
    rng = np.random.default_rng(0)
    listed = np.stack(
        [np.concatenate([rng.permutation(40)[:5], 40 + rng.permutation(20)[:5]]) for _ in range(n)]
    )
    hit = rng.random(listed.shape) < np.where(COLD[listed], hits_of_cold, 0.2)
    wanted = np.zeros((n, N_ITEMS))
    np.put_along_axis(wanted, listed, hit, axis=1)
    scores = rng.random(listed.shape).astype(np.float32)
    return Questions(np.arange(n), sp.csr_matrix(wanted), np.arange(N_ITEMS)), Lists(listed, scores)


def test_scores_that_favour_one_kind_of_item_are_refused() -> None:
    """In service a score means the same for both kinds; then cold items are as highly placed and right far less."""
    n = 400
    even, fair = lists_of_all(0.2, n)
    _, unfair = lists_of_all(0.2, n)
    # the same right answers, in a list where cold places hold items that nobody wanted
    wrong = even.relevant.toarray()
    for row, items in enumerate(unfair.items):
        spare = np.flatnonzero(COLD & (wrong[row] == 0))
        items[5:] = spare[:5]
    same = asked(n)
    questions = same | {"all": even}
    before = answers(same, 0.5) | {"all": fair}
    verdict = judge(questions, before, before | {"all": unfair}, COLD, K, SETTINGS)
    (reason,) = verdict.reasons
    found = verdict.figures["calibration"]
    assert reason.startswith(
        f"calibration: cold and known items of one score are {found['candidate']:.2f} of"
    )
    assert found["candidate"] == pytest.approx(2, abs=0.05)
    assert found["incumbent"] < 0.5
    assert found["interval"][0] > SETTINGS.calibration
    assert judge(questions, before | {"all": unfair}, before, COLD, K, SETTINGS).passed
    loose = SETTINGS.model_copy(update={"calibration": 5.0})
    assert judge(questions, before, before | {"all": unfair}, COLD, K, loose).passed


def test_lists_without_cold_items_leave_the_calibration_open() -> None:
    before = answers(asked(), 0.5)
    known_only = {**before, "all": before["warm"]}
    verdict = verdict_on(known_only, known_only)
    assert verdict.passed
    assert not verdict.figures["calibration"]["is_told"]


# ---------------------------------------------------------------- page


def report_of(verdict: Verdict) -> dict[str, object]:
    encoder = {"model": "all-<MiniLM>", "fingerprint": "abc"}
    facts = {
        "version": "v1", "encoders": {"incumbent": encoder, "candidate": encoder}, "newest": {"pairs": 9, "wanted": 8},
        "settings": SETTINGS.model_dump(mode="json"), "notes": ["Something to know."], "not_placed": 3,
    }  # fmt: skip
    report = {"passed": verdict.passed, "reasons": verdict.reasons, **facts, **verdict.figures}
    return dict(json.loads(json.dumps(report, allow_nan=False)))


def test_the_page_says_the_verdict_and_why() -> None:
    before = answers(asked(), 0.5)
    refused = verdict_on(before, before | {"warm": answers(asked(), 0.0)["warm"]})
    page = render_release(report_of(refused))
    assert "The rebuild is refused" in page
    assert refused.reasons[0] in page
    assert page.count("▼ refused") == 3  # once above, once for each metric
    assert "all-&lt;MiniLM&gt;" in page
    assert "<script" not in page
    passed = render_release(report_of(verdict_on(before, before)))
    assert "The rebuild may go into service" in passed
    assert "▼" not in passed


def test_the_page_of_few_users_and_of_nothing_new() -> None:
    few = verdict_on(answers(asked(10), 0.5), answers(asked(10), 0.5), 10)
    assert render_release(report_of(few)).count("– too few to tell") == 8
    empty = dict(asked())
    nobody = Questions(np.zeros(0, dtype=np.int64), sp.csr_matrix((0, N_ITEMS)), np.arange(N_ITEMS))
    nothing = {name: Lists.of([], K) for name in empty}
    verdict = judge(dict.fromkeys(empty, nobody), nothing, nothing, COLD, K, SETTINGS)
    assert verdict.passed
    assert "too few to tell" in render_release(report_of(verdict))
    page = render_release(report_of(replace(verdict, figures={})))
    assert "Something to know." in page
    assert "Figures of both" not in page
