"""Where everything lies under one output directory. Nobody else joins paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HeldOut = Literal["validation", "test"]
ModelName = Literal["train", "full"]
"""`train` sees the training slice only and is evaluated; `full` sees every row and is published."""


@dataclass(frozen=True)
class Layout:
    """Paths of one build, all under `root`.

    A stage owns exactly the directory `stage(name)`; only the embedding cache and the published
    bundles outlive a stage's rerun.
    """

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the running build; released by the kernel when its process dies."""
        return self.root / "build.lock"

    @property
    def run_record(self) -> Path:
        """What the last run did, stage by stage."""
        return self.root / "run.json"

    @property
    def error(self) -> Path:
        """Traceback of the last failure that nobody had expected."""
        return self.root / "error.txt"

    def stage(self, name: str) -> Path:
        """Directory of one stage's artefacts."""
        return self.root / "stages" / name

    def marker(self, name: str) -> Path:
        """Written last; a stage without it never happened."""
        return self.stage(name) / "_DONE.json"

    # ingest
    @property
    def tables(self) -> Path:
        """Clean tables: `items/`, `users/`, `interactions/`, each a directory of Parquet parts."""
        return self.stage("ingest") / "tables"

    @property
    def rejects(self) -> Path:
        """Rejected rows with their reasons, Parquet parts per table."""
        return self.stage("ingest") / "rejects"

    def ids(self, table: str) -> Path:
        """One-column Parquet file: the caller's ids in row-number order."""
        return self.stage("ingest") / f"{table}_ids.parquet"

    @property
    def ingest_report(self) -> Path:
        """Counts of rows read, kept and rejected, by reason."""
        return self.stage("ingest") / "report.json"

    # split
    def pairs(self, model: ModelName, by: Literal["user", "item"]) -> Path:
        """Aggregated (user, item, weight) pairs a model is fitted on, sorted by one side."""
        return self.stage("split") / f"{model}_by_{by}.parquet"

    def relevant(self, which: HeldOut) -> Path:
        """Held-out pairs, with a column `slice` that is `cold` or `warm`."""
        return self.stage("split") / f"{which}.parquet"

    @property
    def item_roles(self) -> Path:
        """One row per item: `warm` (trained on), `cold` (held out whole) or `unseen` (no interactions)."""
        return self.stage("split") / "item_roles.parquet"

    @property
    def split_report(self) -> Path:
        """Sizes of the slices and, for a time split, the cut points."""
        return self.stage("split") / "report.json"

    # embed
    def embedding_cache(self, fingerprint: str) -> Path:
        """Vectors by content hash for one encoder; shared by all later builds in this directory."""
        return self.root / "cache" / "embeddings" / fingerprint

    def text_embeddings(self, table: str) -> Path:
        """Row parts, one L2-normalised vector a row; zeros where there is no text."""
        return self.stage("embed") / table

    @property
    def embed_report(self) -> Path:
        """Encoder fingerprint, counts of texts encoded and taken from the cache."""
        return self.stage("embed") / "report.json"

    # factorize
    def factors(self, model: ModelName, side: Literal["user", "item"]) -> Path:
        """Row parts of `user_factors` or `item_factors`."""
        return self.stage("factorize") / model / f"{side}_factors"

    def text_maps(self, model: ModelName) -> Path:
        """Safetensors: A, B, the text means and both gramians."""
        return self.stage("factorize") / model / "text_maps.safetensors"

    # evaluate
    @property
    def evaluation(self) -> Path:
        """Figures with intervals for every model and slice."""
        return self.stage("evaluate") / "evaluation.json"

    @property
    def evaluation_report(self) -> Path:
        """The same as a self-contained HTML page."""
        return self.stage("evaluate") / "report.html"

    # publish
    @property
    def bundles(self) -> Path:
        """Published versions, one directory each, complete before anything points to them."""
        return self.root / "bundles"

    def bundle(self, version: str) -> Path:
        """Directory of one published version."""
        return self.bundles / version

    @property
    def current(self) -> Path:
        """JSON pointer to the version in service, replaced atomically."""
        return self.root / "CURRENT"

    @property
    def metrics(self) -> Path:
        """Figures of the published build, for other tools."""
        return self.root / "metrics.json"
