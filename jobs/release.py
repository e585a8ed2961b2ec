"""The release gate: the version in service and what would take its place, asked the same by the program that serves.

What would take its place cannot be asked itself: it has learnt what is to be found. So the model `held`, fitted with
the same settings on what the version in service has seen, stands for it. Both are asked one after the other, so that
only one of them is in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.cluster import connect
from pipelines.core.bundle import BundlePaths, check_manifest, write_manifest
from pipelines.core.columns import one_array
from pipelines.core.config import Config, RulesConfig, load_config
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.ids import hash_ids, row_numbers
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.records import own_columns
from pipelines.core.release import Circumstances, Lists, Questions, SliceName, Verdict, judge, make_questions
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, ITEM_IDX, USER_IDX, WANTED
from pipelines.core.sections.finetuning import VECTOR_OBJECTIVES
from pipelines.core.storage import part_paths, read_json, write_json, write_text
from pipelines.core.tables import read_texts
from pipelines.flow import as_published, exclusive
from pipelines.plain_errors import plain_errors
from pipelines.progress import Bar, Progress
from pipelines.publish import assemble, manifest_facts
from serving.late import LateItems
from serving.metadata import to_json
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.items import StoredItem

__all__ = ["Verdict", "check_release"]

SCHEMA_VERSION = 1
_AT_ONCE = 64
"""Requests that are answered together."""
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Tables:
    """What the gate reads of the rebuild: ids in row-number order, and the wanted pairs that are new."""

    layout: Layout
    user_ids: pa.Array
    item_ids: pa.Array
    user: IntArray
    item: IntArray
    n_pairs: int

    @classmethod
    def read(cls, layout: Layout, incumbent: Incumbent) -> _Tables:
        beside = read_json(layout.split_report).get("newest", {}).get("beside")
        if beside != incumbent.version or not layout.newest.is_file():
            raise ArtefactError(
                f"the build in {layout.root} was split beside {beside or 'no version'}, the gate is to compare it with "
                f"{incumbent.version}. Run the rebuild again."
            )
        users, items = (one_array(pq.read_table(layout.ids(t)).column(0)) for t in ("users", "items"))
        pairs = pq.read_table(layout.newest)
        wanted = pairs.filter(pairs.column(WANTED))
        user, item = (wanted.column(name).to_numpy() for name in (USER_IDX, ITEM_IDX))
        return cls(layout, users, items, user, item, pairs.num_rows)

    def is_shown(self) -> BoolArray:
        paths = part_paths(self.layout.tables / "items")
        hidden = [pq.read_table(path, columns=[IS_HIDDEN]).column(0).to_numpy() for path in paths]
        return ~np.concatenate([np.zeros(0, dtype=bool), *hidden])

    def fields(self, rows: IntArray) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and columns of some items, as callers of the service would give them; a part of the table at a time."""
        start = 0
        for path in part_paths(self.layout.tables / "items"):
            stop = start + pq.read_metadata(path).num_rows
            inside = rows[(rows >= start) & (rows < stop)] - start
            if len(inside):
                for row in pq.read_table(path).take(pa.array(inside)).to_pylist():
                    yield row[ITEM_ID], {n: v if isinstance(v, int) else to_json(v) for n, v in row.items()}
            start = stop


def check_release(config: Config, layout: Layout, incumbent: Incumbent, progress: Progress) -> Verdict:
    """Compare a rebuild, whose stages up to `evaluate` are done, with the version in service; writes `OUT/release`.

    Args:
        config: of the rebuild.
        layout: where it lies.
        incumbent: as noted before the stages ran.
        progress: for people to watch.

    Raises:
        ArtefactError: the version in service cannot be loaded here, or the stages were not run beside it.

    """
    with exclusive(layout), plain_errors(layout, "the release gate"):
        seen = as_published(config, layout)
        tables = _Tables.read(layout, incumbent)
        facts = _facts(seen, layout, incumbent, tables)
        if len(tables.user):
            verdict = _compare(seen, layout, incumbent, tables, progress)
        else:
            facts["notes"].append(
                "Nobody wants anything that the version in service has not seen: nothing to compare by."
            )
            verdict = Verdict(True, [], {})
        verdict = replace(verdict, figures=facts | verdict.figures)
        report = {"passed": verdict.passed, "reasons": verdict.reasons} | verdict.figures
        from pipelines.core.report.release import render_release

        write_text(layout.release_page, render_release(report))
        write_json(layout.release, report)
        return verdict


def _facts(config: Config, layout: Layout, incumbent: Incumbent, tables: _Tables) -> dict[str, Any]:
    """What is compared, and what is to be known of it."""
    bundle = layout.bundle(incumbent.version)
    manifest = check_manifest(read_json(BundlePaths(bundle).manifest), str(bundle))
    model, encoder, notes = manifest.get("model", "full"), manifest["encoder"], list[str]()
    own = manifest_facts(config, layout, "held", "")["encoder"]
    if model == "train":
        notes.append(
            "The version in service was published without publish.refit: what it held back counts as not seen."
        )
    if not config.publish.refit:
        notes.append(
            "publish.refit is off: what would be published is fitted on fewer pairs than what stands for it here."
        )
    if encoder != own:
        notes.append("The two have different encoders.")
    if config.finetune.objective in VECTOR_OBJECTIVES:
        notes.append("The encoder of the rebuild is fine-tuned, and may have learnt from what is asked here.")
    settings = config.release
    return {
        "schema_version": SCHEMA_VERSION,
        "version": incumbent.version,
        "encoders": {"incumbent": encoder, "candidate": own},
        "newest": {"pairs": tables.n_pairs, "wanted": len(tables.user)},
        "settings": settings.model_dump(mode="json"),
        "notes": notes,
    }


@dataclass(frozen=True)
class _Before:
    """What the version in service leaves behind when it has answered; not the version itself, which is large.

    Attributes:
        questions: by slice.
        lists: its answers.
        is_cold: (I,) items without behaviour in it.
        n_lost: items that it could not take in.
        encoder: of it.
        made_with: what its manifest says of the encoder.

    """

    questions: dict[SliceName, Questions]
    lists: dict[SliceName, Lists]
    is_cold: BoolArray
    n_lost: int
    encoder: Encoder
    made_with: object


def _compare(
    config: Config, layout: Layout, incumbent: Incumbent, tables: _Tables, progress: Progress
) -> Verdict:
    bundle = layout.bundle(incumbent.version)
    k = min(config.evaluate.k, config.serve.max_n, load_config(BundlePaths(bundle).config).serve.max_n)
    before = _ask_incumbent(config, bundle, tables, k, progress)
    with _candidate(config, layout, progress) as root:
        made_with = check_manifest(read_json(BundlePaths(root).manifest), str(root))["encoder"]
        shared = before.encoder if before.made_with == made_with else None
        model = Recommender(root, shared, rules=RulesConfig())
        after = _ask(model, before.questions, tables, k, progress)
    verdict = judge(before.questions, before.lists, after, before.is_cold, k, config.release)
    return replace(verdict, figures=verdict.figures | {"not_placed": before.n_lost})


def _ask_incumbent(config: Config, bundle: Path, tables: _Tables, k: int, progress: Progress) -> _Before:
    """Load the version in service, find out what it knows, and ask it."""
    with progress.bar("loading the version in service", 2) as advance:
        model = Recommender(bundle, rules=RulesConfig())
        advance(1)
        known = _circumstances(model, tables)
        model, n_lost = _with_new(model, tables, known.is_shown)
        advance(1)
    hashes = hash_ids(tables.user_ids.to_numpy(zero_copy_only=False))
    questions = make_questions(tables.user, tables.item, known, hashes, config.release)
    lists = _ask(model, questions, tables, k, progress)
    return _Before(questions, lists, ~known.has_behaviour, n_lost, model.encoder, model.manifest["encoder"])


def _circumstances(model: Recommender, tables: _Tables) -> Circumstances:
    knows = row_numbers(tables.user_ids, pa.array(model.user_ids, pa.string())) >= 0
    rows = row_numbers(tables.item_ids, one_array(model.catalogue.bundle.table.column(ITEM_ID)))
    has_behaviour = np.zeros(len(rows), dtype=bool)
    has_behaviour[rows >= 0] = model.catalogue.has_behaviour(rows[rows >= 0])
    strangers = np.unique(tables.user[~knows[tables.user]])
    has_words = np.zeros(len(knows), dtype=bool)
    texts = read_texts(tables.layout.tables / "users", strangers)
    has_words[strangers] = [bool(text) for text in texts]
    return Circumstances(knows, has_words, has_behaviour, tables.is_shown())


def _with_new(model: Recommender, tables: _Tables, is_shown: BoolArray) -> tuple[Recommender, int]:
    """The version with the items that came since, placed by their texts as the service does; how many it refuses."""
    unknown = row_numbers(tables.item_ids, one_array(model.catalogue.bundle.table.column(ITEM_ID))) < 0
    columns = own_columns(model.catalogue.bundle.table, model.config)
    new = [
        StoredItem(item, change, {n: v for n, v in fields.items() if n in columns}, True, 0.0)
        for change, (item, fields) in enumerate(tables.fields(np.flatnonzero(unknown & is_shown)), 1)
    ]
    model = model.with_late(LateItems(model).make(new, {}))
    return model, sum(item.item_id not in model.catalogue for item in new)


@contextmanager
def _candidate(config: Config, layout: Layout, progress: Progress) -> Iterator[Path]:
    """A bundle of the model `held`, for as long as it is asked."""
    root = layout.release_bundle
    shutil.rmtree(root, ignore_errors=True)
    try:
        connect(config.ray)
        paths = BundlePaths(root)
        with progress.bar("assembling what would take its place", 4) as advance:
            assemble(config, layout, "held", paths, advance)
            write_manifest(paths, root.name, manifest_facts(config, layout, "held", ""))
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _ask(
    model: Recommender,
    questions: Mapping[SliceName, Questions],
    tables: _Tables,
    k: int,
    progress: Progress,
) -> dict[SliceName, Lists]:
    """The lists of one version, by slice."""
    n_asked = sum(len(asked.users) for asked in questions.values())
    with progress.bar("asking for lists", n_asked) as advance:
        return {name: _lists(model, name, asked, tables, k, advance) for name, asked in questions.items()}


def _lists(
    model: Recommender, name: SliceName, asked: Questions, tables: _Tables, k: int, advance: Bar
) -> Lists:
    candidates = tables.item_ids.take(pa.array(asked.candidates)).to_pylist()
    shop, row_of = model.showing(candidates), dict(zip(candidates, asked.candidates.tolist(), strict=True))
    requests = _requests(name, asked, tables, k)
    answers: list[tuple[Sequence[int], Sequence[float]]] = []
    for start in range(0, len(requests), _AT_ONCE):
        batch = requests[start : start + _AT_ONCE]
        for answer in shop.recommend_many(batch):
            if isinstance(answer, InputError):
                raise answer
            answers.append(([row_of[place.item_id] for place in answer], answer.scores))
        advance(len(batch))
    return Lists.of(answers, k)


def _requests(name: SliceName, asked: Questions, tables: _Tables, k: int) -> list[Request]:
    if name == "new_users":
        texts = read_texts(tables.layout.tables / "users", asked.users)
        return [Request(user_text=text, n=k, rules=False, diversity=0.0) for text in texts]
    users = tables.user_ids.take(pa.array(asked.users)).to_pylist()
    return [Request(user, n=k, rules=False, diversity=0.0) for user in users]
