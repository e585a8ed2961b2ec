"""Zero-shot attributes: how well a label's words fit an item's text, and from which fit on it is a tag.

Dimensions: I items, L labels of all attributes together, E embedding.

    v_l = the direction of label l: its prompts' mean embedding less the mean of its attribute's labels
    z_il = (P_i . v_l - mean_l) / sd_l        over the items training knows
    confidence_il = sigmoid(w_l . z_i + b_l)

Labels of one attribute share most of their embedding (they are all genres); what is left without it tells them
apart. The standardisation removes hubs: labels that lie close to everything.

Without known tags w_l picks z_il alone and b_l makes the mean confidence the expected share of the label: the
confidences are right on average if that share is, and their spread is an assumption. With known tags w_l and
b_l are a logistic regression on the scores of all labels of the attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from pipelines.core.blend import normalize
from pipelines.core.config import AttributesConfig

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_FOLDS = 5
_INVERSE_PENALTY = 0.1
"""Of the regression on known tags. 0.1 was best or nearly so from 100 to 4,000 known items (decision 0006)."""
_LEAST_SPREAD = 1e-6
"""Fits are in single precision: equal texts differ by less than this."""
_REACH = 50.0
"""Beyond this a logistic is 0 or 1 in double precision."""


@dataclass(frozen=True)
class Known:
    """True tags of one attribute.

    Attributes:
        tags: (I, labels of the attribute) whether the item has the label.
        rows: (I,) items of which the tags are known; the others' rows in `tags` say nothing.

    """

    tags: BoolArray
    rows: BoolArray


@dataclass(frozen=True)
class Calibration:
    """From fit to confidence and tag, for the labels of one attribute.

    Attributes:
        mean: of each label's fit over the reference items.
        sd: likewise; infinite where all items fit alike, so that the fit says nothing.
        weights: (labels, labels) row l turns the standardised fits into label l's log-odds.
        bias: (labels,) added to them.
        threshold: (labels,) a confidence from here on is a tag.
        methods: per label, "known" or "expected share".

    """

    mean: DoubleArray
    sd: DoubleArray
    weights: DoubleArray
    bias: DoubleArray
    threshold: DoubleArray
    methods: tuple[str, ...]


def slices(settings: AttributesConfig) -> dict[str, slice]:
    """Attribute to its columns among the L labels, which stand in the order of the configuration."""
    stops = np.cumsum([len(labels) for labels in settings.labels.values()]).tolist()
    return {
        name: slice(stop - len(labels), stop)
        for (name, labels), stop in zip(settings.labels.items(), stops, strict=True)
    }


def label_prompts(settings: AttributesConfig) -> list[list[str]]:
    """What the encoder reads for each of the L labels: every prompt with every wording."""
    return [
        [
            prompt.replace("{attribute}", name).replace("{label}", words)
            for words in settings.wordings.get(label, (label,))
            for prompt in settings.prompts
        ]
        for name, labels in settings.labels.items()
        for label in labels
    ]


def label_directions(
    prompt_embeddings: Sequence[FloatArray], attributes: Mapping[str, slice], item_mean: FloatArray
) -> FloatArray:
    """(L, E) directions of length 1.

    Args:
        prompt_embeddings: for each label the embeddings of its prompts.
        attributes: as of `slices`.
        item_mean: (E,) of the items; what is taken from an attribute of one label, which has no others.

    """
    means = normalize(np.stack([np.mean(rows, axis=0) for rows in prompt_embeddings]).astype(np.float32))
    for columns in attributes.values():
        group = means[columns]
        means[columns] = group - (group.mean(axis=0) if len(group) > 1 else item_mean)
    return normalize(means)


def calibrate(
    fits: FloatArray, reference: BoolArray, share: float, min_confidence: float, known: Known | None
) -> Calibration:
    """How the fits of one attribute's labels become confidences and tags.

    A label is calibrated by known tags if at least `_FOLDS` items have it and as many do not, else by its share.

    Args:
        fits: (I, labels) P_i . v_l.
        reference: (I,) items that may be learnt from: with text and, where there are any, known to training.
        share: expected share of the items that have a label, above 0 and below 1.
        min_confidence: no threshold lies below it.
        known: true tags of some items, if there are enough of them.

    """
    seen = fits[reference].astype(np.float64)
    n_labels = fits.shape[1]
    mean = seen.mean(axis=0) if len(seen) else np.zeros(n_labels)
    sd = seen.std(axis=0) if len(seen) else np.zeros(n_labels)
    sd = np.where(sd > _LEAST_SPREAD, sd, np.inf)
    scores = (seen - mean) / sd
    weights, bias, threshold = np.eye(n_labels), np.zeros(n_labels), np.zeros(n_labels)
    methods = ["expected share"] * n_labels
    for label in range(n_labels):
        bias[label], threshold[label] = _by_share(scores[:, label], share)
        if known is None:
            continue
        rows = known.rows[reference]
        truth = known.tags[reference, label][rows]
        if min(truth.sum(), (~truth).sum()) >= _FOLDS:
            weights[label], bias[label], threshold[label] = _by_known(scores[rows], truth)
            methods[label] = "known"
    return Calibration(mean, sd, weights, bias, np.maximum(threshold, min_confidence), tuple(methods))


def _by_share(scores: DoubleArray, share: float) -> tuple[float, float]:
    """Bias that makes the mean confidence `share`, and the confidence that this share of the items reaches."""
    from scipy.optimize import brentq  # noqa: PLC0415 - takes half a second, and few builds have labels

    if not len(scores):
        return float(np.log(share / (1.0 - share))), 1.0
    reach = float(np.abs(scores).max()) + _REACH
    bias = float(brentq(lambda b: expit(scores + b).mean() - share, -reach, reach))
    cut = float(np.quantile(expit(scores + bias), 1.0 - share, method="higher"))
    # never a tag for what fits no better than the average item, as where all texts are the same
    return bias, max(cut, float(np.nextafter(expit(bias), 1.0)))


def _by_known(scores: DoubleArray, truth: BoolArray) -> tuple[DoubleArray, float, float]:
    """Weights, bias, and the confidence at which F1 is highest on items the regression was not fitted on."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as above
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: PLC0415

    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    held_out = cross_val_predict(model, scores, truth, cv=folds, method="predict_proba")[:, 1]
    precision, recall, cuts = precision_recall_curve(truth, held_out)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    model.fit(scores, truth)
    return model.coef_[0], float(model.intercept_[0]), float(cuts[np.argmax(f1[:-1])])


def confidences(fits: FloatArray, has_text: BoolArray, calibration: Calibration) -> DoubleArray:
    """(I, labels) in [0, 1]; zeros for an item without text, of which nothing can be said."""
    scores = (fits.astype(np.float64) - calibration.mean) / calibration.sd
    return np.asarray(expit(scores @ calibration.weights.T + calibration.bias) * has_text[:, None])


def tag_mask(confidence: DoubleArray, threshold: DoubleArray, exclusive: bool) -> BoolArray:
    """(I, labels) which labels are tags: those at their threshold, or of an exclusive attribute the best of them."""
    chosen = (confidence >= threshold) & (confidence > 0)
    if exclusive and confidence.shape[1]:
        best = np.where(chosen, confidence, -1.0).argmax(axis=1)
        chosen &= np.arange(confidence.shape[1]) == best[:, None]
    return chosen


def expected_share(settings: AttributesConfig, name: str) -> float:
    """Share of the items expected to have one label of the attribute, all its labels alike."""
    n_labels = len(settings.labels[name])
    default = min(1.0, n_labels / 2)
    n_tags = default if name in settings.exclusive else settings.tags_per_item.get(name, default)
    return n_tags / n_labels
