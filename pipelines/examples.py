"""Writes what a fine-tuning is taught from (`core.finetune.files`): rows and histories in one task, tokens in many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.core.config import Config
from pipelines.core.encoder import Encoder, load_tokenizer
from pipelines.core.errors import InputError
from pipelines.core.finetune.distillation import text_rows
from pipelines.core.finetune.examples import field_starts, load_examples
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.labels import read_labels, stratified_split
from pipelines.core.finetune.negatives import as_mined, nearest_others
from pipelines.core.finetune.order import BATCHES_PER_WINDOW
from pipelines.core.finetune.setup import prepare
from pipelines.core.finetune.synonyms import VARIANTS, Synonyms, reworded
from pipelines.core.finetune.tokens import tokenize, write_tokens
from pipelines.core.layout import Layout
from pipelines.core.schema import TEXT
from pipelines.core.storage import part_paths, write_json
from pipelines.core.tables import read_parts

_NEIGHBOURS_PER_NEGATIVE = 10
"""Hard negatives are drawn from so many times as many neighbours, so that they are not always the same."""


def files_of(config: Config, layout: Layout) -> ExampleFiles:
    """Where the examples of a build are, and how they are read."""
    return ExampleFiles(layout.examples, histories_end=config.finetune.objective == "next_behaviour")


@ray.remote
def write_examples(config: Config, layout: Layout, since: float | None) -> float | None:
    """Write all of it; then everything is put together once, so that what cannot work is told before any training.

    Returns the moment of the newest interaction the encoder has learnt from; None where there are no times.
    """
    settings, files = config.finetune, files_of(config, layout)
    layout.examples.mkdir(parents=True, exist_ok=True)
    newest = since  # what reads no interactions leaves it as it was
    if settings.objective == "classification":
        _write_labelled(config, files)
    elif settings.objective == "distillation":
        _write_texts(config, layout, files)
        train, held = text_rows([files.texts("items"), files.texts("users")], settings)
        files.write_rows(train, held, settings.batch_size * BATCHES_PER_WINDOW)
    else:
        examples = load_examples(layout, settings, since)
        if not len(examples.validation):
            raise InputError(
                f"finetune.objective = '{settings.objective}': no rows to validate with, so the best weights "
                "could not be told. Give more interactions, or hold out a larger share (split.validation, "
                "split.cold_items)."
            )
        newest = examples.newest
        files.write(examples, settings.batch_size * BATCHES_PER_WINDOW)
        _write_texts(config, layout, files)
        if settings.hard_negatives:
            texts = read_parts(layout.tables / "items", [TEXT]).column(0).to_pylist()
            vectors = Encoder(as_mined(config.encoder)).encode(texts)
            files.write_neighbours(
                nearest_others(vectors, _NEIGHBOURS_PER_NEGATIVE * settings.hard_negatives)
            )
    prepare(config, files)
    return newest


def _write_labelled(config: Config, files: ExampleFiles) -> None:
    settings = config.finetune
    labelled = read_labels(str(settings.labels), config.data.csv_delimiter)
    train, held = stratified_split(labelled, settings.validation_rows, settings.seed)
    shuffled = np.random.default_rng(settings.seed).permutation(train)
    files.write_rows(labelled.rows(shuffled), labelled.rows(held), settings.batch_size * BATCHES_PER_WINDOW)
    tokenizer = load_tokenizer(config.encoder)
    part = tokenize(tokenizer, labelled.texts, [[]] * len(labelled.texts), settings.max_tokens)
    write_tokens(files.tokens("labelled"), [part])
    write_json(files.classes, list(labelled.classes))


def _write_texts(config: Config, layout: Layout, files: ExampleFiles) -> None:
    """Token tables of items and users, and the items' other wordings."""
    write_tokens(files.tokens("items"), _tokenised(config, layout.tables / "items", config.data.item_text))
    write_tokens(files.tokens("users"), _tokenised(config, layout.tables / "users", ()))
    if config.finetune.synonyms:
        parts = (
            part
            for variant in range(VARIANTS)
            for part in _tokenised(config, layout.tables / "items", config.data.item_text, variant)
        )
        write_tokens(files.tokens("wordings"), parts)


def _tokenised(
    config: Config, directory: Path, columns: tuple[str, ...], variant: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Parts in their order, each made by a task of its own."""
    running = [_tokenize.remote(config, path, columns, variant) for path in part_paths(directory)]
    yield from (ray.get(part) for part in running)


@ray.remote
def _tokenize(config: Config, path: Path, fields: tuple[str, ...], variant: int | None) -> pa.RecordBatch:
    tokenizer = load_tokenizer(config.encoder)
    columns = [c for c in fields if c in pq.read_schema(path).names]
    table = pq.read_table(path, columns=[TEXT, *columns])
    texts: list[str] = table.column(TEXT).to_pylist()
    rows: list[dict[str, Any]] = table.select(columns).to_pylist() if columns else [{}] * len(texts)
    starts = [field_starts(row, text, columns) for row, text in zip(rows, texts, strict=True)]
    settings = config.finetune
    if settings.objective == "next_behaviour":  # says titles, not whole texts
        texts = [text[: begins[0]] if begins else text for text, begins in zip(texts, starts, strict=True)]
        starts = [[] for _ in texts]
    if variant is not None:
        synonyms = Synonyms.read(Path(str(settings.synonyms)))
        texts, starts = reworded(synonyms, texts, starts, settings.synonym_share, (settings.seed, variant))
    return tokenize(tokenizer, texts, starts, settings.max_tokens)
