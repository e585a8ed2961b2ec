"""Text vectors in, the profiles P of items and of users' own words out, for every model that is fitted.

Reads: texts, relations and vector columns of ingest; sorted pairs and queries of split; text embeddings of embed;
scores of attributes.
Writes: per model the items' profiles, the users' own and the queries' in row parts; the lexical model and its
vectors; the text means.

What a profile is differs by model, for the means are those of the items a model knows, and related items are
looked at only as far as the model may see them. One task per row shard: first the sums behind the means, then
the rows. A task that smooths takes the other shards' rows one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray

from pipelines.cluster import count_cpus
from pipelines.core import als, blend, lexical, relations
from pipelines.core.config import Config, RelationsConfig
from pipelines.core.errors import ConfigError
from pipelines.core.ids import sampled
from pipelines.core.layout import Layout, ModelName, fitted_models
from pipelines.core.pairs import Side, read_pairs, row_offsets
from pipelines.core.schema import ITEM_IDX, RELATIONS, USER_IDX, TableName
from pipelines.core.storage import count_rows, part_paths, read_json, read_rows, write_rows, write_tensors
from pipelines.core.tables import read_parts, read_texts
from pipelines.core.vectors import Block
from pipelines.progress import Progress

__all__ = ["run"]

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Cut = tuple[int, int]
_TABLE: dict[Side, TableName] = {"user": "users", "item": "items"}
_FEW_PAIRS, _FEW_SHARE = 1000, 0.1
"""A shop's first events touch a handful of items: means and words of these alone would turn all other texts, and each
night differently. Fewer pairs than that, on a smaller share of the rows, and all rows count."""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Make the profiles of every fitted model."""
    models = fitted_models(
        refit=config.publish.refit, newcomers=config.split.hides_users, held=layout.has_held()
    )
    blocks = extra_blocks(config, layout)
    related, facts = None, dict[str, object]()
    if config.relations.weight > 0:
        related, counted = _load_relations.options(num_returns=2).remote(config.relations, layout)
        facts["relations"] = ray.get(counted)
    with progress.bar("profiles", len(models)) as advance:
        for model in models:
            widths = _make(config, layout, model, blocks, related)
            advance(1)
    return {"models": list(models), "columns": "+".join(map(str, widths))} | facts


def extra_blocks(config: Config, layout: Layout) -> list[Block]:
    """What joins the items' text, in the order of the columns."""
    blocks = [
        Block(weight, layout.tables / "items", column)
        for column, weight in sorted(config.data.vectors.items())
        if weight > 0
    ]
    if config.attributes.labels and config.attributes.feature_weight > 0:
        blocks.append(Block(config.attributes.feature_weight, layout.attribute_scores))
    return blocks


@ray.remote
def _load_relations(
    settings: RelationsConfig, layout: Layout
) -> tuple[list[relations.Relation], dict[str, int]]:
    """Every relation as a sparse matrix, and how many items each concerns."""
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    table = read_parts(layout.tables / "relations")
    if not table.num_columns:
        table = RELATIONS.empty_table()
    found: list[relations.Relation] = [*relations.given_links(table, n_items, symmetric=settings.symmetric)]
    paths = part_paths(layout.tables / "items")
    for name in settings.columns:
        have = pq.read_schema(paths[0]).names
        if name not in have:
            raise ConfigError(
                f"relations.columns names '{name}', and the items have no such column; they have {', '.join(have)}. "
                "Correct the name, or leave it out."
            )
        columns = (pq.read_table(path, columns=[name]).column(0) for path in paths)
        found.append(relations.shared_values(name, columns, n_items, settings.max_group))
    relations.check_names(settings.weights, [r.name for r in found])
    counts = {r.name: int(np.count_nonzero(np.diff(r.matrix.indptr))) for r in found}
    return found, counts


def _make(
    config: Config, layout: Layout, model: ModelName, blocks: Sequence[Block], related: ray.ObjectRef | None
) -> list[int]:
    """Write one model's profiles; the widths of the encoder's part, of the words and of each block."""
    n = {side: pq.read_metadata(layout.ids(_TABLE[side])).num_rows for side in _TABLE}
    n_shards = config.factorize.shards or count_cpus()
    cuts = {side: ray.get(_cut.remote(layout, model, side, n[side], n_shards)) for side in _TABLE}
    answers_newcomers = read_json(layout.split_report)["newcomers_model"] == model
    queries = [(0, count_rows(layout.text_embeddings("queries")))] if answers_newcomers else []
    fitted = _fit_lexical.remote(config, layout, model)
    rows = {"items": cuts["item"], "users": cuts["user"], "queries": queries}
    ray.get(
        [
            _write_lexical.remote(layout, model, t, fitted, cut)
            for t, table_cuts in rows.items()
            for cut in table_cuts
        ]
    )
    sums = {
        "item": [_sums.remote(layout, model, "item", blocks, cut) for cut in cuts["item"]],
        "user": [_sums.remote(layout, model, "user", (), cut) for cut in cuts["user"]],
    }
    meaning, words, *extra_means = _means(ray.get(sums["item"]))
    user_meaning, user_words = _means(ray.get(sums["user"]))
    item_mean, user_mean = np.concatenate([meaning, words]), np.concatenate([user_meaning, user_words])
    if (
        not user_meaning.any()
    ):  # no user has written anything: words of theirs are then read as words of items
        user_mean = item_mean
    texts = _Texts(layout, model, len(meaning), config.lexical.weight)
    smoothing = None if related is None else _prepare(config, texts, item_mean, cuts["item"], related)
    extra = list(zip(blocks, extra_means, strict=True))
    items = [_write_items.remote(texts, item_mean, smoothing, extra, cut) for cut in cuts["item"]]
    widths = [len(meaning), len(words), *map(len, extra_means)]
    users = [
        _write_words.remote(texts, "users", user_mean, layout.own_profiles(model), sum(widths), cut)
        for cut in cuts["user"]
    ]
    typed = [
        _write_words.remote(texts, "queries", item_mean, layout.query_profiles(model), sum(widths), cut)
        for cut in queries
    ]
    ray.get([*items, *users, *typed])
    write_tensors(layout.profile_means(model), {"item_mean": item_mean, "user_mean": user_mean})
    return widths


@ray.remote
def _fit_lexical(config: Config, layout: Layout, model: ModelName) -> lexical.LexicalModel:
    """Terms and directions from the items that the model knows, or of more than enough a sample."""
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    rows = np.flatnonzero(_known(layout, model, "item", (0, n_items)))
    rows = rows[sampled(rows, config.lexical.fit_texts / max(len(rows), 1))]
    fitted = lexical.fit(read_texts(layout.tables / "items", rows), config.lexical, config.factorize.seed)
    lexical.save(fitted, layout.lexical(model))
    return fitted


@ray.remote
def _write_lexical(
    layout: Layout, model: ModelName, table: str, fitted: lexical.LexicalModel, cut: Cut
) -> None:
    directory = layout.queries if table == "queries" else layout.tables / table
    vectors = fitted.transform(read_texts(directory, np.arange(*cut)))
    write_rows(layout.lexical_vectors(model, table), cut[0], vectors)


@ray.remote
def _cut(layout: Layout, model: ModelName, side: Side, n_rows: int, n_shards: int) -> list[Cut]:
    return als.cut_rows(row_offsets(layout.pairs(model, side), side, n_rows), n_shards)


def _known(layout: Layout, model: ModelName, side: Side, cut: Cut) -> BoolArray:
    """Rows that the model has pairs of; every row while these are too few to speak for the others."""
    path = layout.pairs(model, side)
    if pq.read_metadata(path).num_rows < _FEW_PAIRS:
        key = USER_IDX if side == "user" else ITEM_IDX
        n_known = len(np.unique(pq.read_table(path, columns=[key]).column(0).to_numpy()))
        if n_known < _FEW_SHARE * pq.read_metadata(layout.ids(_TABLE[side])).num_rows:
            return np.ones(cut[1] - cut[0], dtype=bool)
    return np.diff(read_pairs(path, side, *cut, 1 << 31).indptr) > 0


@ray.remote
def _sums(
    layout: Layout, model: ModelName, side: Side, blocks: Sequence[Block], cut: Cut
) -> list[tuple[DoubleArray, int]]:
    """Sum and number of the known rows that have something, for meaning, words and each block."""
    known = _known(layout, model, side, cut)
    table = _TABLE[side]
    text = (
        read_rows(layout.text_embeddings(table), *cut),
        read_rows(layout.lexical_vectors(model, table), *cut),
    )
    return [blend.mean_statistics(rows, known) for rows in (*text, *(b.read(*cut) for b in blocks))]


def _means(shards: Sequence[list[tuple[DoubleArray, int]]]) -> list[FloatArray]:
    means = []
    for sums in zip(*shards, strict=True):
        total, count = np.sum([s for s, _ in sums], axis=0), sum(c for _, c in sums)
        means.append(np.asarray(total / max(count, 1), dtype=np.float32))
    return means


@dataclass(frozen=True)
class _Texts:
    """Text profiles, made where they are needed.

    Attributes:
        layout: where embeddings and lexical vectors are.
        model: whose lexical vectors.
        n_embedding: columns of the encoder.
        lexical_weight: of the columns after them.

    """

    layout: Layout
    model: ModelName
    n_embedding: int
    lexical_weight: float

    def read(self, table: str, mean: FloatArray, cut: Cut) -> FloatArray:
        embeddings = read_rows(self.layout.text_embeddings(table), *cut)
        words = read_rows(self.layout.lexical_vectors(self.model, table), *cut)
        raw = np.concatenate([embeddings, words], axis=1)
        return blend.text_profile(raw, mean, self.n_embedding, self.lexical_weight)

    def parts(self, width: int) -> list[tuple[slice, float]]:
        """Columns of vectors of one length, with that length."""
        meaning, words = slice(0, self.n_embedding), slice(self.n_embedding, width)
        return [(meaning, 1.0)] + ([(words, self.lexical_weight)] if width > self.n_embedding else [])


@dataclass(frozen=True)
class _Smoothing:
    """What a shard needs to look at its neighbours.

    Attributes:
        settings: weights.
        related: reference to the relations.
        sources: reference to (I, parts) items that may be neighbours in each part of the text.
        cuts: rows of the pieces in which the catalogue passes by.

    """

    settings: RelationsConfig
    related: ray.ObjectRef
    sources: ray.ObjectRef
    cuts: list[Cut]


def _prepare(
    config: Config, texts: _Texts, mean: FloatArray, cuts: list[Cut], related: ray.ObjectRef
) -> _Smoothing:
    masks = ray.get([_sources.remote(texts, mean, cut) for cut in cuts])
    return _Smoothing(config.relations, related, ray.put(np.concatenate(masks)), cuts)


@ray.remote
def _sources(texts: _Texts, mean: FloatArray, cut: Cut) -> BoolArray:
    """Items that may be neighbours, (n, parts): with text, and known to a model that is evaluated.

    The published model sees all, as does what stands for it before a release. An item may have a meaning and none of
    the words that are looked at.
    """
    profiles = texts.read("items", mean, cut)
    has = np.stack(
        [profiles[:, columns].any(axis=1) for columns, _ in texts.parts(profiles.shape[1])], axis=1
    )
    return (
        has
        if texts.model in ("held", "full")
        else has & _known(texts.layout, texts.model, "item", cut)[:, None]
    )


@ray.remote
def _write_items(
    texts: _Texts,
    mean: FloatArray,
    smoothing: _Smoothing | None,
    extra: list[tuple[Block, FloatArray]],
    cut: Cut,
) -> None:
    profiles = texts.read("items", mean, cut)
    if smoothing is not None:
        profiles = _smooth(texts, mean, smoothing, profiles, cut)
    blocks = [(block.weight, block.read(*cut), block_mean) for block, block_mean in extra]
    write_rows(texts.layout.item_profiles(texts.model), cut[0], blend.join_blocks(profiles, blocks))


def _smooth(
    texts: _Texts, mean: FloatArray, smoothing: _Smoothing, profiles: FloatArray, cut: Cut
) -> FloatArray:
    """Meaning and words are smoothed each by itself, for each has a length of its own to keep."""
    smoothed = profiles.copy()
    for part, (columns, length) in enumerate(texts.parts(profiles.shape[1])):
        if length:
            pieces = (
                (piece[0], texts.read("items", mean, piece)[:, columns] / np.float32(length))
                for piece in smoothing.cuts
            )
            smoothed[:, columns] = np.float32(length) * relations.smooth(
                profiles[:, columns] / np.float32(length),
                cut,
                ray.get(smoothing.related),
                ray.get(smoothing.sources)[:, part],
                pieces,
                weight=smoothing.settings.weight,
                weights=smoothing.settings.weights,
            )
    return smoothed


@ray.remote
def _write_words(texts: _Texts, table: str, mean: FloatArray, directory: Path, width: int, cut: Cut) -> None:
    """Profiles of what people write: nothing in the extra blocks."""
    write_rows(directory, cut[0], blend.pad(texts.read(table, mean, cut), width))
