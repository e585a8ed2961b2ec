"""Forgetting is nothing where the order of similarities stays, and all where it is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipelines.core.finetune.forgetting import (
    General,
    GeneralPair,
    GeneralTexts,
    general_pairs,
    reason_to_stop,
)
from pipelines.core.finetune.network import TextNetwork
from pipelines.core.finetune.objective import Encode, Sequences
from tests.unit.tiny_models import load_tiny, make_tokenizer

N = 40
TEXTS = GeneralTexts([[k] for k in range(2 * N)], np.arange(N) % 6.0)


def at_angles(degrees: Sequence[float]) -> Encode:
    """An encoder whose pair k is so far apart."""
    radians = np.deg2rad([angle for degree in degrees for angle in (0.0, degree)])
    vectors = torch.tensor(np.stack([np.cos(radians), np.sin(radians)], axis=1)) * 3
    return lambda sequences: vectors[[s[0] for s in sequences]]


BASE = General.of(at_angles(np.linspace(5, 120, N)), TEXTS)


def test_the_packaged_pairs_are_many_different_and_of_every_kind() -> None:
    pairs = general_pairs()
    assert len(pairs) >= 150
    assert len({(p.first, p.second) for p in pairs}) == len(pairs)
    kinds = Counter((p.languages, p.grade) for p in pairs)
    assert set(kinds) == {(languages, grade) for languages in ("en", "zh", "en-zh") for grade in range(6)}
    assert all(p.first and p.second and p.first != p.second for p in pairs)
    has_chinese = {
        p.languages: {any("\u4e00" <= c <= "\u9fff" for c in text) for text in (p.first, p.second)}
        for p in pairs
    }
    assert has_chinese == {"en": {False}, "zh": {True}, "en-zh": {False, True}}


def test_the_same_encoder_has_forgotten_nothing() -> None:
    figures = BASE.figures(BASE)
    assert figures["forgetting"] == pytest.approx(0)
    assert figures["shift"] == 0
    assert set(BASE.figures()) == {"agreement", "anisotropy"}


def test_similarities_that_keep_their_order_are_not_forgotten() -> None:
    figures = General.of(at_angles(np.linspace(10, 60, N) ** 1.1), TEXTS).figures(BASE)
    assert figures["forgetting"] == pytest.approx(0)
    assert figures["shift"] > 0.1


def test_an_order_turned_round_is_two_and_a_random_one_is_about_one() -> None:
    turned = General.of(at_angles(np.linspace(120, 5, N)), TEXTS).figures(BASE)
    assert turned["forgetting"] == pytest.approx(2)
    shuffled = np.random.default_rng(0).permutation(np.linspace(5, 120, N))
    assert General.of(at_angles(shuffled), TEXTS).figures(BASE)["forgetting"] == pytest.approx(1, abs=0.35)


def test_agreement_is_with_the_grades() -> None:
    similar = General.of(at_angles(100 - 10 * TEXTS.grades), TEXTS)
    assert similar.figures()["agreement"] == pytest.approx(1)


def test_anisotropy_is_the_mean_cosine_of_any_two() -> None:
    vectors = np.random.default_rng(1).normal(size=(2 * N, 5)) + 0.4
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    slow = np.mean([unit[i] @ unit[j] for i in range(2 * N) for j in range(2 * N) if i != j])
    found = General.of(lambda sequences: torch.tensor(vectors[: len(sequences)]), TEXTS)
    assert found.anisotropy == pytest.approx(slow)
    assert General.of(at_angles([0.0] * N), TEXTS).anisotropy == pytest.approx(1)


def test_what_few_pairs_cannot_tell_is_not_told() -> None:
    few = General.of(at_angles([10, 20, 30]), GeneralTexts(TEXTS.sequences[:6], TEXTS.grades[:3]))
    assert set(few.figures(few)) == {"shift", "anisotropy"}
    none = General.of(at_angles([1]), GeneralTexts([], np.zeros(0)))
    assert none.figures(none) == {}


@pytest.mark.parametrize(
    ("figures", "most", "stops"),
    [
        ({"forgetting": 0.3}, 0.2, True),
        ({"forgetting": 0.1}, 0.2, False),
        ({"forgetting": 2.0}, 0.0, False),
        ({}, 0.2, False),
    ],
)
def test_a_limit_stops_a_training(figures: dict[str, float], most: float, stops: bool) -> None:
    reason = reason_to_stop(figures, most)
    assert (reason is not None) == stops
    if reason is not None:
        assert "0.300" in reason


def test_pairs_that_a_tokenizer_cannot_read_are_left_out() -> None:
    pairs = [GeneralPair("a red tent", "the tent", 4, "en"), GeneralPair("\u2603\u2604", "\u2605", 0, "zh")]
    found = GeneralTexts.of(make_tokenizer("bert"), pairs)
    assert found.grades.tolist() == [4.0]
    assert len(found.sequences) == 2


def test_a_network_measured_after_its_weights_were_lost() -> None:
    tokenizer, model = load_tiny("bert")
    network = TextNetwork(model.eval(), "mean", tokenizer.pad_token_id)
    texts = GeneralTexts.of(
        tokenizer, [GeneralPair(f"red tent {k}", "blue cup " * (k % 7 + 1), k % 6, "en") for k in range(30)]
    )

    def encode(sequences: Sequences) -> torch.Tensor:
        with torch.no_grad():
            return network(sequences)

    base = General.of(encode, texts)
    assert General.of(encode, texts).figures(base)["forgetting"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    # how much it is depends on ties in the vocabulary
    assert General.of(encode, texts).figures(base)["forgetting"] > 0.01
