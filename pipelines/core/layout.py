"""Where everything lies under one output directory. Nobody else joins paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HeldOut = Literal["validation", "test"]
HELD_OUT: tuple[HeldOut, ...] = ("validation", "test")
ENCODER_NOTE = "kindling.json"
"""Beside an encoder's weights: up to when it has learnt from behaviour."""
ModelName = Literal["train", "newcomers", "held", "full"]
"""`train` sees the training slice only and is evaluated; `newcomers` sees every row but those of some users, whom it is
evaluated on; `held` sees what the version in service has seen, with which it is compared before a release; `full` sees
every row and is published."""


def fitted_models(*, refit: bool, newcomers: bool, held: bool) -> tuple[ModelName, ...]:
    """The models a build fits.

    Args:
        refit: `publish.refit`; without it the measured model is published too.
        newcomers: whether users are hidden whole (`split.hides_users`).
        held: whether there is something that the version in service has not seen (`Layout.has_held`).

    """
    wanted: dict[ModelName, bool] = {"train": True, "newcomers": newcomers, "held": held, "full": refit}
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


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
    def runs(self) -> Path:
        """JSON of each of the last runs, see `core.runs`."""
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        """JSON: what one run did."""
        return self.runs / f"{run_id}.json"

    @property
    def nights(self) -> Path:
        """JSON of each night, see `jobs.nights`."""
        return self.root / "nights"

    def night(self, date: str) -> Path:
        """JSON: what became of one night, by its ISO 8601 date."""
        return self.nights / f"{date}.json"

    @property
    def nights_lock(self) -> Path:
        """Held by the running night; released by the kernel when its process dies."""
        return self.nights / "nights.lock"

    @property
    def config(self) -> Path:
        """TOML: every setting that what lies here was made with, whether it was published or not."""
        return self.root / "config.toml"

    @property
    def source(self) -> Path:
        """JSON: which tables it was made from."""
        return self.root / "build.json"

    @property
    def forgotten(self) -> Path:
        """Parquet: whom the service was asked to forget, see `core.forgetting`; absent where it is nobody."""
        return self.root / "forgotten.parquet"

    @property
    def incumbent(self) -> Path:
        """JSON: the version that a rebuild is measured against, see `core.incumbent`; absent in a plain build."""
        return self.root / "incumbent.json"

    @property
    def rebuild_record(self) -> Path:
        """JSON: what became of the last rebuild."""
        return self.root / "rebuild.json"

    @property
    def collected(self) -> Path:
        """What the service was told until this build began, see `core.collected`; absent where there is no service."""
        return self.root / "collected"

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
        """Clean tables: `items/`, `users/`, `interactions/`, `relations/`, each a directory of Parquet parts."""
        return self.stage("ingest") / "tables"

    @property
    def rejects(self) -> Path:
        """Rejected rows with their reasons, Parquet parts per table."""
        return self.stage("ingest") / "rejects"

    def ids(self, table: str) -> Path:
        """One-column Parquet file: the caller's ids in row-number order."""
        return self.stage("ingest") / f"{table}_ids.parquet"

    @property
    def announced(self) -> Path:
        """Parquet: items that the service alone was told of, and when; absent where there are none."""
        return self.stage("ingest") / "announced.parquet"

    @property
    def ingest_report(self) -> Path:
        """Counts of rows read, kept and rejected, by reason."""
        return self.stage("ingest") / "report.json"

    # split
    def pairs(self, model: ModelName, by: Literal["user", "item"]) -> Path:
        """Aggregated (user, item, weight) pairs a model is fitted on, sorted by one side."""
        return self.stage("split") / f"{model}_by_{by}.parquet"

    def exposure(self, model: ModelName) -> Path:
        """One row per item, see `core.exposure`; absent where it is not known of any, or not to count."""
        return self.stage("split") / f"{model}_exposure.parquet"

    @property
    def newest(self) -> Path:
        """Pairs that the version in service has not seen, with a column `wanted`; absent in a plain build."""
        return self.stage("split") / "newest.parquet"

    def has_held(self) -> bool:
        """Whether split left pairs for the model `held`: a rebuild with something new in it."""
        return self.pairs("held", "user").is_file()

    def relevant(self, which: HeldOut) -> Path:
        """Held-out pairs, with a column `slice` that is `cold` or `warm`."""
        return self.stage("split") / f"{which}.parquet"

    def known(self, which: HeldOut) -> Path:
        """Pairs that training does not see but that are history by the time users are asked (time split)."""
        return self.stage("split") / f"{which}_known.parquet"

    def newcomers(self, which: HeldOut) -> Path:
        """Pairs of users hidden from training, with the order in which they are revealed, see `core.newcomers`."""
        return self.stage("split") / f"{which}_newcomers.parquet"

    @property
    def queries(self) -> Path:
        """Parquet parts like those of `tables`: what each newcomer types, one row a user."""
        return self.stage("split") / "queries"

    @property
    def item_roles(self) -> Path:
        """One row per item: `warm` (trained on), `cold` (held out whole) or `unseen` (no interactions)."""
        return self.stage("split") / "item_roles.parquet"

    @property
    def split_report(self) -> Path:
        """Sizes of the slices and, for a time split, the cut points."""
        return self.stage("split") / "report.json"

    # finetune
    @property
    def examples(self) -> Path:
        """What is learnt from: token tables, histories, and rows for training and validation."""
        return self.stage("finetune") / "examples"

    @property
    def tuned_encoder(self) -> Path:
        """Weights and tokenizer of the fine-tuned encoder, a folder like any other encoder's; absent without one."""
        return self.stage("finetune") / "encoder"

    @property
    def tuned_head(self) -> Path:
        """Safetensors: weights of the objective's own on top of the encoder; absent where it has none."""
        return self.stage("finetune") / "head.safetensors"

    @property
    def finetune_config(self) -> Path:
        """TOML: every setting that the encoder was taught with, the encoder it was taught from among them."""
        return self.stage("finetune") / "config.toml"

    @property
    def finetune_report(self) -> Path:
        """Figures before and after, the curve, speed, and what was forgotten."""
        return self.stage("finetune") / "report.json"

    def finetune_run(self, fingerprint: str) -> Path:
        """Checkpoints, TensorBoard events and the log of one fine-tuning; outlives a stage that was killed."""
        return self.root / "cache" / "finetune" / fingerprint

    # embed
    def embedding_cache(self, fingerprint: str) -> Path:
        """Vectors by content hash for one encoder; shared by all later builds in this directory."""
        return self.embedding_caches / fingerprint

    @property
    def embedding_caches(self) -> Path:
        """The caches of all encoders that were used here."""
        return self.root / "cache" / "embeddings"

    def text_embeddings(self, table: str) -> Path:
        """Row parts, one L2-normalised vector a row; zeros where there is no text."""
        return self.stage("embed") / table

    @property
    def embed_report(self) -> Path:
        """Encoder fingerprint, counts of texts encoded and taken from the cache."""
        return self.stage("embed") / "report.json"

    # attributes
    @property
    def attributes(self) -> Path:
        """Parquet, one row per item in row-number order: tags and their confidences; absent without labels."""
        return self.stage("attributes") / "attributes.parquet"

    @property
    def attribute_scores(self) -> Path:
        """Row parts: the confidence of every label, (I, L), zeros where there is no text; absent without labels."""
        return self.stage("attributes") / "scores"

    @property
    def attributes_report(self) -> Path:
        """Labels in column order with thresholds, counts and how each was calibrated."""
        return self.stage("attributes") / "report.json"

    # profile
    def item_profiles(self, model: ModelName) -> Path:
        """Row parts (I, E'): centred text of length 1 or zero, smoothed along relations; then the extra blocks."""
        return self.stage("profile") / model / "items"

    def own_profiles(self, model: ModelName) -> Path:
        """Row parts (U, E'): users' own words, centred, of length 1 or zero; zeros in the extra blocks."""
        return self.stage("profile") / model / "users"

    def query_profiles(self, model: ModelName) -> Path:
        """Row parts (Q, E'): the queries of split, likewise; only of the model that newcomers are measured on."""
        return self.stage("profile") / model / "queries"

    def lexical(self, model: ModelName) -> Path:
        """Parquet: terms, idf and directions of the lexical vectors, see `core.lexical`."""
        return self.stage("profile") / model / "lexical.parquet"

    def lexical_vectors(self, model: ModelName, table: str) -> Path:
        """Row parts (n, L): lexical vectors of the texts of items, users or queries."""
        return self.stage("profile") / model / "lexical" / table

    def profile_means(self, model: ModelName) -> Path:
        """Safetensors: `item_mean` and `user_mean` (E + L,), subtracted from embeddings and lexical vectors."""
        return self.stage("profile") / model / "means.safetensors"

    # factorize
    def factors(self, model: ModelName, side: Literal["user", "item"]) -> Path:
        """Row parts of `user_factors` or `item_factors`."""
        return self.stage("factorize") / model / f"{side}_factors"

    def text_maps(self, model: ModelName) -> Path:
        """Safetensors: A, B and both gramians."""
        return self.stage("factorize") / model / "text_maps.safetensors"

    # evaluate
    @property
    def evaluation(self) -> Path:
        """Figures with intervals for every model and slice."""
        return self.stage("evaluate") / "evaluation.json"

    @property
    def per_user(self) -> Path:
        """Parquet: the model's figures of every user, to compare builds by."""
        return self.stage("evaluate") / "per_user.parquet"

    @property
    def evaluation_report(self) -> Path:
        """The same as a self-contained HTML page."""
        return self.stage("evaluate") / "report.html"

    def comparison(self, name: str) -> Path:
        """JSON: what was built here beside another build, figures and differences."""
        return self.root / "comparisons" / name / "comparison.json"

    def comparison_report(self, name: str) -> Path:
        """The same as a self-contained HTML page."""
        return self.root / "comparisons" / name / "report.html"

    # drift and alerts
    @property
    def drift(self) -> Path:
        """JSON: what is otherwise in the last rebuild than in the version it was measured against."""
        return self.root / "drift" / "report.json"

    @property
    def drift_report(self) -> Path:
        """The same as a self-contained HTML page."""
        return self.root / "drift" / "report.html"

    @property
    def alerts(self) -> Path:
        """JSON: which alerts were sent and which could not be, so that none is sent every minute."""
        return self.root / "alerts.json"

    # release
    @property
    def release(self) -> Path:
        """JSON: what the release gate found of the last rebuild."""
        return self.root / "release" / "report.json"

    @property
    def release_page(self) -> Path:
        """The same as a self-contained HTML page."""
        return self.root / "release" / "report.html"

    @property
    def release_bundle(self) -> Path:
        """What the gate asks in place of the version that would be published; gone when it is done.

        Under a name by which `publish` and removals find what a killed process has left.
        """
        return self.bundles / ".release.tmp"

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
    def current_lock(self) -> Path:
        """Held while `current` is changed or old versions are removed, see `core.registry.folder`."""
        return self.root / "CURRENT.lock"

    @property
    def registry_searched(self) -> Path:
        """JSON: versions of the registry that know nobody who was forgotten, and as of which deletions."""
        return self.root / "cache" / "registry_searched.json"

    @property
    def fetch_lock(self) -> Path:
        """Held while a version is fetched from a registry, see `core.registry.mirror`."""
        return self.root / "fetch.lock"

    @property
    def metrics(self) -> Path:
        """Figures of the published build, for other tools."""
        return self.root / "metrics.json"

    # tune
    def tuning(self, model: str) -> Path:
        """What tuning of one model left: studies, and the outcome of the latest."""
        return self.root / "tune" / model

    def study(self, model: str, fingerprint: str) -> Path:
        """JSON Lines: every trial of one study when it started and when it ended, appended as it happened."""
        return self.tuning(model) / "studies" / f"{fingerprint}.jsonl"

    def trials(self, model: str) -> Path:
        """JSON Lines: one line per trial of the latest study."""
        return self.tuning(model) / "trials.jsonl"

    def tuning_report(self, model: str) -> Path:
        """The same as a self-contained HTML page."""
        return self.tuning(model) / "report.html"

    def best_config(self, model: str) -> Path:
        """TOML: the best settings found, for `--config`."""
        return self.tuning(model) / "best.toml"

    def tune_scratch(self, model: str) -> Path:
        """What Ray Tune keeps while it runs; of no use afterwards."""
        return self.tuning(model) / ".ray"
