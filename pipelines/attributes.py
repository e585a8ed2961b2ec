"""Labels in, a tag with its confidence on every item out: a zero-shot enrichment, off without labels.

Reads: item tables of ingest (known tags), item roles of split, item text embeddings of embed.
Writes: `attributes.parquet` (tags and confidences), `scores/` (row parts, all confidences), `report.json`; the
report alone where the configuration has no labels.

Every item is tagged, but means, spreads and thresholds come from warm items: with a time split the texts of
items that come later must not shape the features that the measured model is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.cluster import count_gpus
from pipelines.core import attributes as core
from pipelines.core import blend
from pipelines.core.config import AttributesConfig, Config, EncoderConfig
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ConfigError
from pipelines.core.known_tags import known_tags
from pipelines.core.layout import Layout
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, RESERVED, TEXT
from pipelines.core.storage import part_paths, read_rows, write_json, write_rows, write_table
from pipelines.core.tables import read_parts
from pipelines.progress import Progress

__all__ = ["run"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Encode the labels, score every item part by part, calibrate and tag in one task: (I, L) is small."""
    settings = config.attributes
    if not settings.labels:
        write_json(layout.attributes_report, {"attributes": {}})
        return {"labels": 0}
    _check_names(settings, layout)
    cuts = _cuts(layout)
    with progress.bar("tagging items", 3) as advance:
        prompts = _encode.options(num_gpus=1 if count_gpus() else 0).remote(
            config.encoder, core.label_prompts(settings)
        )
        sums = ray.get([_text_sum.remote(layout, *cut) for cut in cuts])
        total, count = np.sum([s for s, _ in sums], axis=0), sum(c for _, c in sums)
        item_mean = np.asarray(total / max(count, 1), dtype=np.float32)
        advance(1)
        directions = core.label_directions(ray.get(prompts), core.slices(settings), item_mean)
        fits = [_fit.remote(layout, *cut, item_mean, directions) for cut in cuts]
        ray.wait(fits, num_returns=len(fits))
        advance(1)
        summary: dict[str, object] = ray.get(_tag.remote(config, layout, *fits))
        advance(1)
    return summary


def _check_names(settings: AttributesConfig, layout: Layout) -> None:
    """Refuse an attribute that would take the place of a column the items have.

    Raises:
        ConfigError: names both.

    """
    taken = {ITEM_ID, TEXT, IS_HIDDEN, *RESERVED}
    for path in part_paths(layout.tables / "items"):
        taken |= set(pq.read_schema(path).names)
    for name in settings.labels:
        for column in (name, f"{name}_confidence"):
            if column in taken:
                raise ConfigError(
                    f"attributes.labels: the items have a column '{column}' already. Give the attribute "
                    f"another name, such as '{name}_tag'."
                )


def _cuts(layout: Layout) -> list[tuple[int, int]]:
    """First and last row of each part of the item embeddings."""
    names = [p.stem.split("-")[1:] for p in part_paths(layout.text_embeddings("items"), ".safetensors")]
    return [(int(start), int(stop)) for start, stop in names]


def _reference(layout: Layout, start: int, stop: int) -> BoolArray:
    """Items that statistics are made from: the warm ones, or all where there is no behaviour."""
    roles = pq.read_table(layout.item_roles).column("role").to_numpy()
    warm = np.asarray(roles == "warm", dtype=bool)
    return (warm if warm.any() else np.ones(len(warm), dtype=bool))[start:stop]


@ray.remote
def _encode(config: EncoderConfig, prompts: list[list[str]]) -> list[FloatArray]:
    """Embeddings of each label's prompts, all encoded in one go."""
    rows = Encoder(config).encode([text for texts in prompts for text in texts])
    return np.split(rows, np.cumsum([len(texts) for texts in prompts])[:-1])


@ray.remote
def _text_sum(layout: Layout, start: int, stop: int) -> tuple[DoubleArray, int]:
    embeddings = read_rows(layout.text_embeddings("items"), start, stop)
    return blend.mean_statistics(embeddings, _reference(layout, start, stop))


@ray.remote
def _fit(
    layout: Layout, start: int, stop: int, mean: FloatArray, directions: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Fits (rows, L) of one part, and which of its rows have text."""
    embeddings = read_rows(layout.text_embeddings("items"), start, stop)
    return blend.centre(embeddings, mean) @ directions.T, np.any(embeddings != 0, axis=1)


@ray.remote
def _tag(config: Config, layout: Layout, *parts: tuple[FloatArray, BoolArray]) -> dict[str, object]:
    """Calibrate on the reference items, then write tags, scores and the report of all."""
    settings = config.attributes
    fits, has_text = np.concatenate([f for f, _ in parts]), np.concatenate([t for _, t in parts])
    reference = has_text & _reference(layout, 0, len(fits))
    columns: dict[str, pa.Array] = {}
    scores = np.zeros(fits.shape, dtype=np.float32)
    report: dict[str, object] = {}
    for name, chosen in core.slices(settings).items():
        known = _known(settings, layout, name, reference)
        calibration = core.calibrate(
            fits[:, chosen], reference, core.expected_share(settings, name), settings.min_confidence, known
        )
        confidence = core.confidences(fits[:, chosen], has_text, calibration)
        mask = core.tag_mask(confidence, calibration.threshold, name in settings.exclusive)
        columns |= _tag_columns(name, settings.labels[name], confidence, mask)
        scores[:, chosen] = confidence
        report[name] = {
            "known_items": int((known.rows & reference).sum()) if known else 0,
            "known_column_is_in_the_text": settings.known.get(name) in config.data.item_text,
            "labels": _label_reports(settings.labels[name], calibration, mask),
        }
    write_table(layout.attributes, pa.table(columns))
    write_rows(layout.attribute_scores, 0, scores)
    tagged = {name: int(sum(len(tags) > 0 for tags in columns[name].to_pylist())) for name in settings.labels}
    write_json(layout.attributes_report, {"reference_items": int(reference.sum()), "attributes": report})
    return {"labels": fits.shape[1], "items_tagged": tagged}


def _known(settings: AttributesConfig, layout: Layout, name: str, reference: BoolArray) -> core.Known | None:
    """Known tags of an attribute, or None without a column for them or with too few items in it."""
    if name not in settings.known:
        return None
    column = settings.known[name]
    items = read_parts(layout.tables / "items", [column])
    if column not in items.column_names:
        names: set[str] = set()
        for path in part_paths(layout.tables / "items"):
            names |= set(pq.read_schema(path).names)
        raise ConfigError(
            f"attributes.known: the items have no column '{column}' for {name}; they have {', '.join(sorted(names))}."
        )
    known = known_tags(items.column(column), settings.labels[name], settings.known_separator)
    return known if (known.rows & reference).sum() >= settings.min_known else None


def _tag_columns(
    name: str, labels: Sequence[str], confidence: DoubleArray, mask: BoolArray
) -> dict[str, pa.Array]:
    """The tags of each item, the most certain first, and beside them their confidences."""
    tags: list[list[str]] = []
    values: list[list[float]] = []
    for row, chosen in zip(confidence, mask, strict=True):
        order = [int(i) for i in np.argsort(-row, kind="stable") if chosen[i]]
        tags.append([labels[i] for i in order])
        values.append([float(row[i]) for i in order])
    return {
        name: pa.array(tags, pa.list_(pa.string())),
        f"{name}_confidence": pa.array(values, pa.list_(pa.float32())),
    }


def _label_reports(
    labels: Sequence[str], calibration: core.Calibration, mask: BoolArray
) -> list[dict[str, object]]:
    return [
        {
            "label": label,
            "items": int(mask[:, i].sum()),
            "threshold": round(float(calibration.threshold[i]), 6),
            "calibrated_by": calibration.methods[i],
        }
        for i, label in enumerate(labels)
    ]
