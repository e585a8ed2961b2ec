"""Whether numbers mean what they say: how far predictions are from what happens, and a line that brings them nearer.

A probability of 0.8 should come true eight times in ten, and of what is rated 4.2 the mean should be 4.2. Fine-tuned
networks are often too sure (Guo et al. 2017). A line over their raw outputs has too few parameters to learn a
validation set by heart and keeps the order of what it is applied to.

Dimensions: n examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold

DoubleArray = npt.NDArray[np.float64]
Line = tuple[float, float]
"""Slope and offset."""

BINS = 15
_FOLDS = 5
_INVERSE_PENALTY = 100.0
"""Of Platt's slope: only where the classes are apart, so that there is no best one, does it matter."""
_TEMPERATURES = (-4.0, 4.0)
"""Bounds of their logs."""


@dataclass(frozen=True)
class Calibration:
    """slope * raw + offset, and what it is good for.

    Attributes:
        slope: 0 or more, so that the order stays.
        offset: 0 for a temperature.
        before: calibration error of the raw outputs.
        after: of calibrated ones, each by a line that was fitted without it.

    """

    slope: float
    offset: float
    before: float
    after: float

    def __call__(self, raw: DoubleArray) -> DoubleArray:
        """Calibrated outputs: logits stay logits, ratings stay ratings."""
        return self.slope * raw + self.offset


def expected_calibration_error(happened: DoubleArray, probabilities: DoubleArray, bins: int = BINS) -> float:
    """Mean distance of probability and frequency over equally wide bins, weighted by their examples (ECE).

    Args:
        happened: (n,) 1 or 0; without any, NaN.
        probabilities: (n,) of it.
        bins: over [0, 1].

    """
    return _error(happened, probabilities, np.minimum((probabilities * bins).astype(int), bins - 1))


def rating_calibration_error(ratings: DoubleArray, predicted: DoubleArray, bins: int = BINS) -> float:
    """The same for numbers, in their own unit: over bins of as many examples each, by what was predicted."""
    place = np.empty(len(predicted), dtype=int)
    place[np.argsort(predicted, kind="stable")] = np.arange(len(predicted))
    return _error(ratings, predicted, place * min(bins, len(predicted)) // max(len(predicted), 1))


def _error(truth: DoubleArray, predicted: DoubleArray, bins: npt.NDArray[np.int_]) -> float:
    if not len(truth):
        return float("nan")
    return float(np.abs(np.bincount(bins, predicted - truth)).sum() / len(truth))


def platt(logits: DoubleArray, happened: DoubleArray) -> Calibration:
    """For probabilities of yes and no: a logistic regression on the logit (Platt 1999); (n,) each."""
    return _cross_fitted(
        logits, happened, _platt_line, lambda raw, truth: expected_calibration_error(truth, expit(raw))
    )


def affine(predicted: DoubleArray, ratings: DoubleArray) -> Calibration:
    """For ratings: least squares; (n,) each."""
    return _cross_fitted(
        predicted, ratings, _affine_line, lambda raw, truth: rating_calibration_error(truth, raw)
    )


def temperature(logits: DoubleArray, labels: npt.NDArray[np.int64]) -> Calibration:
    """For one class of several: one factor for all logits (n, C); the error is that of the likeliest class."""

    def error(raw: DoubleArray, truth: DoubleArray) -> float:
        return top_class_error(truth.astype(np.int64), softmax(raw, axis=1))

    return _cross_fitted(logits, labels.astype(np.float64), _temperature_line, error)


def top_class_error(labels: npt.NDArray[np.int64], probabilities: DoubleArray) -> float:
    """ECE of the likeliest class of each of (n, C) being right."""
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return expected_calibration_error(right, probabilities.max(axis=1, initial=0.0))


def _cross_fitted(
    raw: DoubleArray,
    truth: DoubleArray,
    fit: Callable[[DoubleArray, DoubleArray], Line],
    error: Callable[[DoubleArray, DoubleArray], float],
) -> Calibration:
    """A line of all examples, and the error of lines that were fitted without the examples they are measured on."""
    before = error(raw, truth)
    if len(raw) < 2 * _FOLDS:  # too few to say anything
        return Calibration(1.0, 0.0, before, before)
    honest = np.empty_like(raw)
    for given, asked in KFold(_FOLDS, shuffle=True, random_state=0).split(raw):
        slope, offset = fit(raw[given], truth[given])
        honest[asked] = slope * raw[asked] + offset
    return Calibration(*fit(raw, truth), before, error(honest, truth))


def _platt_line(logits: DoubleArray, happened: DoubleArray) -> Line:
    if happened.min() == happened.max():  # nothing to tell apart
        return 1.0, 0.0
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000).fit(logits[:, None], happened > 0)
    slope = float(model.coef_[0, 0])
    if slope > 0:
        return slope, float(model.intercept_[0])
    share = happened.mean()  # the order is worth nothing, let alone its opposite
    return 0.0, float(np.log(share / (1 - share)))


def _affine_line(predicted: DoubleArray, ratings: DoubleArray) -> Line:
    model = LinearRegression().fit(predicted[:, None], ratings)
    slope = float(model.coef_[0])
    return (slope, float(model.intercept_)) if slope > 0 else (0.0, float(ratings.mean()))


def _temperature_line(logits: DoubleArray, labels: DoubleArray) -> Line:
    rows, own = np.arange(len(labels)), labels.astype(np.int64)

    def cost(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, own].mean())

    best = minimize_scalar(cost, bounds=_TEMPERATURES, method="bounded").x
    return float(np.exp(-best)), 0.0
