"""Zero-shot tags against known genres, beside prevalence, keywords and a classifier, as a Markdown file.

    python benchmarks/attributes.py --data DIR [--resamples N]

DIR holds the movies: items.parquet with title, title_zh, description and, kept out of every text, categories.
Methods that are given known genres are measured on items whose genres they were not given (5 folds).
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from quality import ROOT, circumstances
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold

from pipelines.core import attributes as core
from pipelines.core.blend import centre
from pipelines.core.config import AttributesConfig, EncoderConfig
from pipelines.core.encoder import Encoder
from pipelines.core.known_tags import known_tags
from pipelines.core.text import compose_text

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

WORDINGS: dict[str, tuple[str, ...]] = {
    "Action": ("action", "fighting", "explosions"),
    "Adventure": ("adventure", "quest", "expedition"),
    "Animation": ("animation", "cartoon", "animated"),
    "Children": ("children", "kids", "family"),
    "Comedy": ("comedy", "funny", "humor"),
    "Crime": ("crime", "gangsters", "robbery", "police"),
    "Documentary": ("documentary", "true story interviews"),
    "Drama": ("drama",),
    "Fantasy": ("fantasy", "magic", "fairy tale"),
    "Film-Noir": ("film noir", "hard-boiled detective", "femme fatale"),
    "Horror": ("horror", "monster", "ghost", "killer"),
    "IMAX": ("IMAX",),
    "Musical": ("musical", "song", "dance", "singing"),
    "Mystery": ("mystery", "whodunit"),
    "Romance": ("romance", "love"),
    "Sci-Fi": ("science fiction", "space", "aliens", "future"),
    "Thriller": ("thriller", "suspense"),
    "War": ("war", "soldiers", "battle", "army"),
    "Western": ("western", "cowboys", "outlaws", "sheriff"),
}
"""Written once, before any figure per genre was seen; keywords and encoder read the same ones."""
GENRES = tuple(WORDINGS)
TAGS_PER_ITEM = 2.0
"""A round guess; the truth is 2.4."""
BINS = 15
KEYWORDS = "keywords: wordings (BM25)"
"""What the others are compared with."""


@dataclass(frozen=True)
class Tagged:
    """What a method says of (items, genres): scores to rank by, tags, and confidences where it has any."""

    scores: DoubleArray
    tags: BoolArray
    confidence: DoubleArray | None = None


@dataclass(frozen=True)
class Catalogue:
    """The movies of one comparison."""

    texts: list[str]
    embeddings: FloatArray
    truth: BoolArray

    def select(self, rows: BoolArray) -> Catalogue:
        """Some of them."""
        texts = [t for t, keep in zip(self.texts, rows, strict=True) if keep]
        return Catalogue(texts, self.embeddings[rows], self.truth[rows])


def main() -> None:
    """Measure, then write benchmarks/results/attributes_movies.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    items_df = pd.read_parquet(options.data / "items.parquet")
    texts = [compose_text(r, ("title", "title_zh", "description")) for r in items_df.to_dict("records")]
    encoder, started = Encoder(EncoderConfig()), time.perf_counter()
    embeddings = encoder.encode(texts)
    seconds = time.perf_counter() - started
    truth = known_tags(pa.chunked_array([pa.array(items_df["categories"])]), GENRES, "|").tags
    every = Catalogue(texts, embeddings, truth)
    has_plot = items_df["description"].notna().to_numpy()
    lines = [
        "# Zero-shot attributes: genres of movies",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/attributes.py --data DIR --resamples {options.resamples}`. Encoder "
        f"{encoder.config.model}, {len(texts)} texts in {seconds:.0f} s. Texts: title, Chinese title and plot; "
        "genres are in none of them.",
        "",
        "mAP: average precision, mean over 19 genres; in brackets 95 % bootstrap intervals over items. ECE: expected "
        f"calibration error over all (item, genre) pairs, {BINS} equal bins. Tags: mean per item, in brackets the "
        "truth. Known genres are used in five folds: an item is measured where its genres were not given. Prevalence "
        "is given the true shares.",
    ]
    for title, catalogue in (
        ("with a plot", every.select(has_plot)),
        ("all, most of the rest a bare title", every),
    ):
        lines += compare(title, catalogue, encoder, options.resamples)
    page = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "attributes_movies.md").write_text(page, encoding="utf-8")
    print(page)


def compare(title: str, catalogue: Catalogue, encoder: Encoder, resamples: int) -> list[str]:
    """Two tables: methods, then average precision by genre."""
    truth = catalogue.truth
    methods = all_methods(catalogue, encoder)
    draws = np.random.default_rng(0).integers(0, len(truth), (resamples, len(truth)))
    samples = {name: np.array([mean_ap(truth[d], m.scores[d]) for d in draws]) for name, m in methods.items()}
    figures = {name: mean_ap(truth, m.scores) for name, m in methods.items()}
    lines = [
        "",
        f"## Items {title} ({len(truth)})",
        "",
        "| method | mAP | less keywords with wordings | micro F1 | macro F1 | "
        f"tags ({truth.sum(1).mean():.2f}) | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in methods.items():
        low, high = np.quantile(samples[name], [0.025, 0.975])
        d_low, d_high = np.quantile(samples[name] - samples[KEYWORDS], [0.025, 0.975])
        micro, macro = (f1_score(truth, found.tags, average=a, zero_division=0) for a in ("micro", "macro"))
        error = "–" if found.confidence is None else f"{calibration_error(truth, found.confidence):.3f}"
        lines.append(
            f"| {name} | {figures[name]:.3f} [{low:.3f}, {high:.3f}] | "
            f"{figures[name] - figures[KEYWORDS]:+.3f} [{d_low:+.3f}, {d_high:+.3f}] | {micro:.3f} | {macro:.3f} | "
            f"{found.tags.sum(1).mean():.2f} | {error} |"
        )
    shown = [
        n
        for n in methods
        if n.startswith(("keywords: w", "zero-shot: labels, 2", "zero-shot: wordings, 2", "known: all"))
    ]
    lines += [
        "",
        "| average precision | share | " + " | ".join(shown) + " |",
        "|" + "---|" * (len(shown) + 2),
    ]
    for j in np.argsort(-truth.mean(axis=0)):
        cells = [f"{average_precision_score(truth[:, j], methods[n].scores[:, j]):.3f}" for n in shown]
        lines.append(f"| {GENRES[j]} | {truth[:, j].mean():.3f} | " + " | ".join(cells) + " |")
    return lines


def all_methods(catalogue: Catalogue, encoder: Encoder) -> dict[str, Tagged]:
    """Every line of the table, cheapest knowledge first."""
    truth, embeddings = catalogue.truth, catalogue.embeddings
    mean = embeddings.mean(axis=0)
    plain, worded = (directions(encoder, mean, words) for words in ({}, WORDINGS))
    profiles = centre(embeddings, mean)
    fits, worded_fits = profiles @ plain[0].T, profiles @ worded[0].T
    z = (fits - fits.mean(axis=0)) / fits.std(axis=0)
    return {
        "prevalence, majority tags": prevalence(truth),
        "keywords: label (BM25)": keywords(catalogue.texts, {g: (g, f"{g}s") for g in GENRES}),
        KEYWORDS: keywords(catalogue.texts, WORDINGS),
        "raw cosine, labels": by_share(embeddings @ plain[1].T, TAGS_PER_ITEM),
        "zero-shot: labels, 1 tag expected": by_share(fits, 1.0),
        "zero-shot: labels, 2 tags expected": by_share(fits, TAGS_PER_ITEM),
        "zero-shot: labels, mixture of two normals": mixture(z),
        "zero-shot: labels, z > 1": Tagged(z, z > 1),
        "zero-shot: wordings, 2 tags expected": by_share(worded_fits, TAGS_PER_ITEM),
        "known: own label's fit, wordings": in_folds(truth, lambda rows: own_fit(worded_fits, truth, rows)),
        "known: 100 items, wordings": in_folds(truth, lambda rows: calibrated(worded_fits, truth, rows[:100])),
        "known: 1000 items, wordings": in_folds(truth, lambda rows: calibrated(worded_fits, truth, rows[:1000])),
        "known: all items, labels": in_folds(truth, lambda rows: calibrated(fits, truth, rows)),
        "known: all items, wordings": in_folds(truth, lambda rows: calibrated(worded_fits, truth, rows)),
        "classifier on embeddings, 100 items": in_folds(truth, lambda rows: classifier(profiles, truth, rows[:100])),
        "classifier on embeddings, all items": in_folds(truth, lambda rows: classifier(profiles, truth, rows)),
    }  # fmt: skip


def directions(
    encoder: Encoder, mean: FloatArray, wordings: dict[str, tuple[str, ...]]
) -> tuple[FloatArray, FloatArray]:
    """Label directions of the stage, and the labels' embeddings as they come."""
    settings = AttributesConfig(labels={"genre": GENRES}, wordings=wordings)
    prompts = [encoder.encode(texts) for texts in core.label_prompts(settings)]
    raw = np.stack([rows.mean(axis=0) for rows in prompts])
    return core.label_directions(prompts, core.slices(settings), mean), raw


def prevalence(truth: BoolArray) -> Tagged:
    """The share of each genre for every item; as tags the two most frequent genres, which maximise micro F1."""
    shares = np.broadcast_to(truth.mean(axis=0), truth.shape)
    top = np.argsort(-truth.mean(axis=0))[:2]
    return Tagged(shares, np.isin(np.arange(truth.shape[1]), top) & np.ones_like(truth), shares)


def keywords(texts: list[str], words: dict[str, tuple[str, ...]]) -> Tagged:
    """BM25 of the words, their plurals included; a tag where any of them occurs."""
    index = bm25s.BM25()
    index.index([tokens(text) or ["-"] for text in texts], show_progress=False)
    scores = np.zeros((len(texts), len(words)))
    for j, some in enumerate(words.values()):
        asked = {t for word in some for token in tokens(word) for t in (token, f"{token}s")}
        present = sorted(asked & index.vocab_dict.keys())
        scores[:, j] = index.get_scores(present) if present else 0.0
    return Tagged(scores, scores > 0)


def tokens(text: str) -> list[str]:
    """Words in small letters."""
    return re.findall(r"\w+", text.lower())


def by_share(fits: FloatArray, n_tags: float) -> Tagged:
    """What the stage does without known tags."""
    rows = np.ones(len(fits), dtype=bool)
    calibration = core.calibrate(fits, rows, n_tags / fits.shape[1], 0.0, None)
    confidence = core.confidences(fits, rows, calibration)
    return Tagged(confidence, core.tag_mask(confidence, calibration.threshold, False), confidence)


def mixture(z: FloatArray) -> Tagged:
    """Per label the probability of the upper of two normal components."""
    columns = []
    for j in range(z.shape[1]):
        model = GaussianMixture(2, random_state=0).fit(z[:, [j]])
        columns.append(model.predict_proba(z[:, [j]])[:, model.means_.argmax()])
    confidence = np.stack(columns, axis=1)
    return Tagged(confidence, confidence >= 0.5, confidence)


Fitted = Callable[[npt.NDArray[np.int64]], tuple[DoubleArray, BoolArray]]


def in_folds(truth: BoolArray, fit: Fitted) -> Tagged:
    """Each item's confidences and tags from a model that was not given its genres."""
    confidence, tags = np.zeros(truth.shape), np.zeros(truth.shape, dtype=bool)
    rng = np.random.default_rng(0)
    for given, asked in KFold(5, shuffle=True, random_state=0).split(truth):
        all_confidence, all_tags = fit(rng.permutation(given))
        confidence[asked], tags[asked] = all_confidence[asked], all_tags[asked]
    return Tagged(confidence, tags, confidence)


def calibrated(
    fits: FloatArray, truth: BoolArray, given: npt.NDArray[np.int64]
) -> tuple[DoubleArray, BoolArray]:
    """What the stage does when the genres of the items `given` are known."""
    rows = np.ones(len(fits), dtype=bool)
    known = core.Known(truth, np.isin(np.arange(len(fits)), given))
    calibration = core.calibrate(fits, rows, TAGS_PER_ITEM / len(GENRES), 0.0, known)
    confidence = core.confidences(fits, rows, calibration)
    return confidence, core.tag_mask(confidence, calibration.threshold, False)


def own_fit(
    fits: FloatArray, truth: BoolArray, given: npt.NDArray[np.int64]
) -> tuple[DoubleArray, BoolArray]:
    """The same, label by label: each sees its own fit alone."""
    columns = [calibrated(fits[:, [j]], truth[:, [j]], given) for j in range(fits.shape[1])]
    return np.hstack([c for c, _ in columns]), np.hstack([t for _, t in columns])


def classifier(
    profiles: FloatArray, truth: BoolArray, given: npt.NDArray[np.int64]
) -> tuple[DoubleArray, BoolArray]:
    """No zero-shot at all: a regression on the embedding; a genre that fewer than two items have gets nothing."""
    confidence = np.zeros(truth.shape)
    for j in range(truth.shape[1]):
        if truth[given, j].sum() > 1:
            model = LogisticRegression(C=1.0, max_iter=500).fit(profiles[given], truth[given, j])
            confidence[:, j] = model.predict_proba(profiles)[:, 1]
    return confidence, confidence >= 0.25


def mean_ap(truth: BoolArray, scores: DoubleArray) -> float:
    """Mean over the genres that occur."""
    present = np.flatnonzero(truth.any(axis=0))
    return float(np.mean([average_precision_score(truth[:, j], scores[:, j]) for j in present]))


def calibration_error(truth: BoolArray, confidence: DoubleArray) -> float:
    """Mean distance between confidence and frequency, bins weighted by their pairs."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1).ravel()
    sizes = np.bincount(bins, minlength=BINS)
    gaps = np.bincount(bins, confidence.ravel() - truth.ravel(), minlength=BINS)
    return float(np.abs(gaps).sum() / sizes.sum())


if __name__ == "__main__":
    main()
