"""Labels, calibration and tags: known answers, then slow obvious versions."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.optimize import minimize
from sklearn.metrics import f1_score

from pipelines.core import attributes
from pipelines.core.attributes import Calibration, Known
from pipelines.core.blend import centre
from pipelines.core.config import AttributesConfig, EncoderConfig, parse_config, to_toml
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ConfigError
from pipelines.core.known_tags import known_tags

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

TWO = AttributesConfig(
    labels={"style": ("modern", "rustic", "classic"), "audience": ("children",)},
    prompts=("{label}", "A {label} {attribute}."),
    wordings={"rustic": ("country house", "farm")},
)


def fits_of(truth: BoolArray, noise: float, seed: int = 0) -> FloatArray:
    """Fits as cosines are: small, off centre, higher where the label is true."""
    drawn = np.random.default_rng(seed).standard_normal(truth.shape)
    return (0.1 + 0.05 * (truth + noise * drawn)).astype(np.float32)


def truth_of(n: int, shares: tuple[float, ...], seed: int = 1) -> BoolArray:
    return np.random.default_rng(seed).random((n, len(shares))) < np.array(shares)


def everyone(n: int) -> BoolArray:
    return np.ones(n, dtype=bool)


def test_every_prompt_is_asked_with_every_wording() -> None:
    assert attributes.label_prompts(TWO) == [
        ["modern", "A modern style."],
        ["country house", "A country house style.", "farm", "A farm style."],
        ["classic", "A classic style."],
        ["children", "A children audience."],
    ]
    assert attributes.slices(TWO) == {"style": slice(0, 3), "audience": slice(3, 4)}


def test_braces_in_a_label_are_text() -> None:
    settings = AttributesConfig(labels={"a": ("{x}", "{attribute}")}, prompts=("{attribute}: {label}",))
    assert attributes.label_prompts(settings) == [["a: {x}"], ["a: {attribute}"]]


def test_directions_are_what_tells_the_labels_of_an_attribute_apart() -> None:
    drawn = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    common = np.zeros(8, dtype=np.float32)
    common[0] = 30.0
    prompts = [drawn[:2] + common, drawn[2:3] + common, drawn[3:5] + common, drawn[5:6]]
    item_mean = np.full(8, 0.1, dtype=np.float32)
    found = attributes.label_directions(prompts, attributes.slices(TWO), item_mean)
    units = [p.mean(axis=0) / np.linalg.norm(p.mean(axis=0)) for p in prompts]
    for row in range(3):
        expected = units[row] - (units[0] + units[1] + units[2]) / 3
        np.testing.assert_allclose(found[row], expected / np.linalg.norm(expected), atol=1e-4)
    alone = units[3] - item_mean
    np.testing.assert_allclose(found[3], alone / np.linalg.norm(alone), atol=1e-5)
    assert abs(found[:3, 0]).max() < 0.2  # of the common part hardly anything is left


def test_the_encoder_tags_obvious_items_in_english() -> None:
    encoder = Encoder(EncoderConfig(dtype="float32"), device="cpu")
    settings = AttributesConfig(labels={"topic": ("cooking", "sport", "music")}, exclusive=("topic",))
    texts = [
        "Cast iron frying pan for steaks and omelettes",
        "Football boots with studs for wet grass",
        "Acoustic guitar with nylon strings",
        "Chef's knife, stays sharp",
        "Running shoes for a marathon",
        "Digital piano with weighted keys",
        "",
    ]
    embeddings = encoder.encode(texts)
    mean = embeddings[:6].mean(axis=0)
    prompts = [encoder.encode(texts) for texts in attributes.label_prompts(settings)]
    fits = (
        centre(embeddings, mean) @ attributes.label_directions(prompts, attributes.slices(settings), mean).T
    )
    has_text = np.any(embeddings != 0, axis=1)
    calibration = attributes.calibrate(
        fits, has_text, attributes.expected_share(settings, "topic"), 0.0, None
    )
    confidence = attributes.confidences(fits, has_text, calibration)
    mask = attributes.tag_mask(confidence, calibration.threshold, exclusive=True)
    assert [np.flatnonzero(row).tolist() for row in mask] == [[0], [1], [2], [0], [1], [2], []]
    assert not confidence[6].any()
    np.testing.assert_allclose(confidence[:6].mean(axis=0), 1 / 3, rtol=1e-6)


def test_the_mean_confidence_and_the_number_of_tags_are_the_expected_share() -> None:
    fits = fits_of(truth_of(1000, (0.1, 0.3)), 0.7)
    reference = np.arange(1000) % 2 == 0
    calibration = attributes.calibrate(fits, reference, 0.2, 0.0, None)
    confidence = attributes.confidences(fits, everyone(1000), calibration)
    np.testing.assert_allclose(confidence[reference].mean(axis=0), 0.2, rtol=1e-9)
    mask = attributes.tag_mask(confidence, calibration.threshold, exclusive=False)
    assert mask[reference].sum(axis=0).tolist() == [100, 100]
    assert calibration.methods == ("expected share", "expected share")
    # by hand: the logistic of the standardised fit, moved by the bias
    seen = fits[reference].astype(np.float64)
    z = (fits - seen.mean(axis=0)) / seen.std(axis=0)
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-z - calibration.bias)), rtol=1e-6)


def test_only_reference_items_are_learnt_from() -> None:
    truth = truth_of(600, (0.3, 0.4))
    fits, reference = fits_of(truth, 0.5), np.arange(600) < 400
    known = Known(truth, everyone(600))
    changed = fits.copy()
    changed[400:] = 9.0
    lies = Known(np.where(reference[:, None], truth, ~truth), everyone(600))
    for one, other in ((None, None), (known, lies)):
        a = attributes.calibrate(fits, reference, 0.3, 0.0, one)
        b = attributes.calibrate(changed, reference, 0.3, 0.0, other)
        for field in ("mean", "sd", "weights", "bias", "threshold"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_known_tags_calibrate_as_a_slow_regression_does() -> None:
    truth = truth_of(500, (0.3, 0.15))
    fits = fits_of(truth, 0.6)
    calibration = attributes.calibrate(fits, everyone(500), 0.5, 0.0, Known(truth, everyone(500)))
    assert calibration.methods == ("known", "known")
    z = (fits.astype(np.float64) - fits.mean(axis=0, dtype=np.float64)) / fits.std(axis=0, dtype=np.float64)

    for label in range(2):
        sign = np.where(truth[:, label], 1.0, -1.0)

        def loss(w: npt.NDArray[np.float64], sign: npt.NDArray[np.float64] = sign) -> float:
            return float(0.5 * w[:2] @ w[:2] + 0.1 * np.logaddexp(0, -sign * (z @ w[:2] + w[2])).sum())

        slow = minimize(loss, np.zeros(3), tol=1e-12).x
        np.testing.assert_allclose(calibration.weights[label], slow[:2], atol=2e-3)
        np.testing.assert_allclose(calibration.bias[label], slow[2], atol=2e-3)
    # the intercept is not penalised: on what it was fitted on, the mean confidence is the true share
    confidence = attributes.confidences(fits, everyone(500), calibration)
    np.testing.assert_allclose(confidence.mean(axis=0), truth.mean(axis=0), atol=1e-3)


def test_known_tags_set_a_threshold_that_is_good_for_f1() -> None:
    truth = truth_of(12_000, (0.1,))
    fits = fits_of(truth, 0.6)
    half = np.arange(12_000) < 6000
    calibration = attributes.calibrate(fits, half, 0.5, 0.0, Known(truth, everyone(12_000)))
    confidence = attributes.confidences(fits, everyone(12_000), calibration)[~half, 0]
    reached = f1_score(truth[~half, 0], confidence >= calibration.threshold[0])
    best = max(f1_score(truth[~half, 0], confidence >= cut) for cut in np.linspace(0.01, 0.99, 99))
    assert reached > best - 0.05
    assert reached > f1_score(truth[~half, 0], confidence >= 0.01) + 0.1


def test_a_label_with_too_few_known_items_is_calibrated_by_its_share() -> None:
    truth = truth_of(300, (0.3, 0.3, 0.3))
    truth[:, 1] = False
    truth[:4, 1] = True
    truth[:, 2] = True
    calibration = attributes.calibrate(
        fits_of(truth, 0.5), everyone(300), 0.2, 0.0, Known(truth, everyone(300))
    )
    assert calibration.methods == ("known", "expected share", "expected share")
    assert calibration.weights[1].tolist() == [0.0, 1.0, 0.0]


def test_items_without_text_have_no_tags_and_no_confidence() -> None:
    fits = fits_of(truth_of(50, (0.5, 0.5)), 0.5)
    has_text = np.arange(50) > 9
    fits[:10] = 0.0
    calibration = attributes.calibrate(fits, has_text, 0.5, 0.0, None)
    confidence = attributes.confidences(fits, has_text, calibration)
    assert not confidence[:10].any()
    assert not attributes.tag_mask(confidence, np.zeros(2), exclusive=False)[:10].any()
    assert attributes.tag_mask(confidence, np.zeros(2), exclusive=False)[10:].all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_items_that_are_all_the_same_get_no_tags(n: int) -> None:
    fits = np.full((n, 2), 0.25, dtype=np.float32)
    calibration = attributes.calibrate(fits, everyone(n), 0.3, 0.0, None)
    confidence = attributes.confidences(fits, everyone(n), calibration)
    np.testing.assert_allclose(confidence, 0.3)
    assert not attributes.tag_mask(confidence, calibration.threshold, exclusive=False).any()


def test_duplicates_are_tagged_alike() -> None:
    fits = np.repeat(fits_of(truth_of(40, (0.2, 0.2)), 0.5), 3, axis=0)
    calibration = attributes.calibrate(fits, everyone(120), 0.2, 0.0, None)
    mask = attributes.tag_mask(
        attributes.confidences(fits, everyone(120), calibration), calibration.threshold, exclusive=False
    )
    assert (mask[0::3] == mask[1::3]).all()
    assert (mask[0::3] == mask[2::3]).all()
    assert mask.any()


def test_min_confidence_raises_thresholds_and_never_lowers_them() -> None:
    fits = fits_of(truth_of(200, (0.2, 0.2)), 0.5)
    low, high = (attributes.calibrate(fits, everyone(200), 0.2, least, None) for least in (0.0, 0.9))
    assert (low.threshold < 0.9).all()
    assert high.threshold.tolist() == [0.9, 0.9]
    free = attributes.calibrate(fits, everyone(200), 0.2, 0.01, None)
    assert free.threshold.tolist() == low.threshold.tolist()


def test_an_exclusive_attribute_gives_its_best_label_if_that_is_a_tag() -> None:
    confidence = np.array([[0.6, 0.9, 0.1], [0.6, 0.7, 0.1], [0.2, 0.3, 0.1], [0.8, 0.8, 0.8]])
    threshold = np.array([0.5, 0.8, 0.0])
    shared = attributes.tag_mask(confidence, threshold, exclusive=False)
    single = attributes.tag_mask(confidence, threshold, exclusive=True)
    assert shared.tolist() == [[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert single.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert attributes.tag_mask(np.zeros((1, 3)), threshold, exclusive=True).tolist() == [[0, 0, 0]]


def test_expected_shares() -> None:
    settings = AttributesConfig(
        labels={"a": ("x", "y", "z", "w"), "b": ("x",), "c": ("x", "y", "z"), "d": ("x", "y", "z")},
        tags_per_item={"a": 1.5, "d": 2},
        exclusive=("d",),
    )
    shares = [attributes.expected_share(settings, name) for name in "abcd"]
    np.testing.assert_allclose(shares, [0.375, 0.5, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("column", "tags", "rows"),
    [
        (["War|comedy ", "Drama", "", None, "|"], [[1, 1], [0, 0], [0, 0], [0, 0], [0, 0]], [1, 1, 0, 0, 0]),
        ([["war"], ["COMEDY", None], [], None, ["x"]], [[0, 1], [1, 0], [0, 0], [0, 0], [0, 0]], [1, 1, 0, 0, 1]),
        ([None, None], [[0, 0], [0, 0]], [0, 0]),
    ],
)  # fmt: skip
def test_known_tags(column: list[Any], tags: list[list[int]], rows: list[int]) -> None:
    found = known_tags(pa.chunked_array([pa.array(column)]), ("Comedy", "War"), "|")
    assert found.tags.astype(int).tolist() == tags
    assert found.rows.astype(int).tolist() == rows


def test_known_tags_in_chinese_and_in_several_chunks() -> None:
    column = pa.chunked_array([pa.array(["喜剧,战争"]), pa.array(["战争"])])
    assert known_tags(column, ("战争", "喜剧"), ",").tags.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("values", [[1.5], [[1, 2]], [{"a": "x"}]])
def test_a_column_that_holds_no_tags_is_named_by_its_type(values: list[Any]) -> None:
    with pytest.raises(ConfigError, match="holds no tags; expected text or lists of text"):
        known_tags(pa.chunked_array([pa.array(values)]), ("a",), "|")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"a": []}}, "labels of a"),
        ({"labels": {"a": ["x", " X"]}}, "different"),
        ({"labels": {"a": ["x", " "]}}, "none empty"),
        ({"labels": {"": ["x"]}}, "names that are not empty"),
        ({"labels": {"a": ["x"], "a_confidence": ["x"]}}, "columns that differ"),
        ({"prompts": ["a film"]}, r"expected \{label\} in each"),
        ({"prompts": []}, "attributes.prompts"),
        ({"exclusive": ["z"]}, "exclusive: z is no attribute of labels"),
        ({"known": {"z": "c"}}, "known: z is no attribute"),
        ({"tags_per_item": {"z": 1}}, "tags_per_item: z is no attribute"),
        ({"labels": {"a": ["x", "y"]}, "tags_per_item": {"a": 2}}, "less than its 2 labels"),
        ({"labels": {"a": ["x", "y"]}, "tags_per_item": {"a": 0}}, "0.001 or more"),
        ({"labels": {"a": ["x"]}, "wordings": {"y": ["z"]}}, "wordings: y"),
        ({"labels": {"a": ["x"]}, "wordings": {"x": []}}, "and words"),
        ({"feature_weight": -1}, "attributes.feature_weight"),
        ({"min_confidence": 1.5}, "attributes.min_confidence"),
    ],
)
def test_settings_that_cannot_be_used(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"attributes": changed}, "here")


def test_the_settings_come_back_from_toml() -> None:
    config = parse_config(
        {
            "attributes": {
                "labels": {"价格": ["便宜", '"dear"'], "style.x": ["a b"]},
                "wordings": {"便宜": ["实惠"]},
                "exclusive": ["价格"],
                "tags_per_item": {"价格": 1.25},
                "known": {"style.x": "categories"},
                "feature_weight": 0.5,
            }
        },
        "here",
    )
    assert parse_config(tomllib.loads(to_toml(config)), "there") == config


def test_a_calibration_is_frozen() -> None:
    calibration = attributes.calibrate(np.zeros((2, 1), np.float32), everyone(2), 0.5, 0.0, None)
    assert isinstance(calibration, Calibration)
    with pytest.raises(AttributeError):
        calibration.bias = np.zeros(1)  # type: ignore[misc]
