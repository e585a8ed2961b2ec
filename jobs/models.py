"""`kindling models`: the published versions of a build or a registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from jobs.places import place_of, settings_of
from pipelines.core.config import Config, load_config
from pipelines.core.errors import ArtefactError, ConfigError, KindlingError
from pipelines.core.forgetting import Forgotten, digest_of
from pipelines.core.forgetting_items import withdrawn_items
from pipelines.core.layout import Layout
from pipelines.core.registry.difference import compare_versions, figures_of, headline, settings_of_version
from pipelines.core.registry.forgetting import knows_forgotten, knows_withdrawn
from pipelines.core.registry.registry import Registry, Version, open_place
from pipelines.core.registry.retention import Retention
from pipelines.core.storage import read_json, write_json
from serving.experiments.in_use import in_use_by_store

console = Console(highlight=False, soft_wrap=True, markup=False)
_FACTS = ("created_at", "schema_version", "model", "encoder", "data", "counts", "program", "run_id", "job_id")


def registry_of(out: str, config: Path | None) -> Registry:
    """The versions of a build, where its settings publish them."""
    return Registry(place_of(out, config))


def print_versions(out: str, config: Path | None, *, as_json: bool) -> None:
    """One line a version."""
    registry = registry_of(out, config)
    used = _in_use(out, config)
    found = [_summary(version, used.get(version.name, ())) for version in registry.versions()]
    if as_json:
        pointer = registry.place.pointer()
        _print_json({"versions": found, "earlier": pointer.earlier, "history": pointer.history})
        return
    table = Table(
        Column("version", no_wrap=True),
        "in service",
        "MB",
        Column("figure", no_wrap=True),
        "A/B tests",
        "schema",
    )
    for v in found:
        figure = v["headline"]
        table.add_row(
            v["version"], "yes" if v["is_current"] else "", f"{v['bytes'] / 1e6:.1f}",
            "" if figure is None else f"{figure[0]} {figure[1]:.4f}",
            ", ".join(v["experiments"]), str(v["schema_version"] or ""),
        )  # fmt: skip
    console.print(table)
    for v in found:
        if v["problem"]:
            console.print(f"{v['version']}: {v['problem']}")


def _summary(version: Version, experiments: Sequence[str]) -> dict[str, Any]:
    return {
        "version": version.name,
        "created_at": version.manifest.get("created_at"),
        "bytes": version.n_bytes,
        "headline": headline(version.metrics),
        "is_current": version.is_current,
        "experiments": list(experiments),
        "schema_version": version.manifest.get("schema_version"),
        "problem": version.problem,
    }


def print_version(out: str, config: Path | None, name: str, *, as_json: bool) -> None:
    """Facts, figures by slice, settings."""
    registry = registry_of(out, config)
    version = registry.show(name)
    summary = _summary(version, _in_use(out, config).get(name, ()))
    settings = settings_of_version(registry.place, name) if version.manifest else {}
    if as_json:
        _print_json(
            {**summary, "manifest": version.manifest, "metrics": version.metrics, "settings": settings}
        )
        return
    for key in ("version", "is_current", "bytes", "experiments", "problem"):
        console.print(f"{key}: {summary[key]}")
    for key in _FACTS:
        if key in version.manifest:
            console.print(f"{key}: {_one_line(version.manifest[key])}")
    console.print(_figures_table(figures_of(version.metrics)))
    for key, value in settings.items():
        console.print(f"{key} = {_one_line(value)}")


def _figures_table(figures: Mapping[str, float | None]) -> Table:
    """A row for each slice; of what is measured at several lengths of a list, the longest. `--json` has all."""
    metrics = list(dict.fromkeys(name.split(" ")[1] for name in figures))
    lengths = [int(metric.split("@")[1]) for metric in metrics if "@" in metric]
    shown = [metric for metric in metrics if metric.endswith(f"@{max(lengths, default=0)}")] or metrics
    table = Table("slice", *shown, title="figures on test pairs")
    for name in dict.fromkeys(name.split(" ")[0] for name in figures):
        values = [figures.get(f"{name} {metric}") for metric in shown]
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    return table


def print_difference(out: str, config: Path | None, a: str, b: str, *, as_json: bool) -> None:
    """Settings, figures and counts that changed."""
    found = compare_versions(registry_of(out, config), a, b)
    if as_json:
        _print_json(asdict(found))
        return
    for title, changed in (("items", found.items), ("users", found.users)):
        console.print(f"{title}: {', '.join(f'{count} {what}' for what, count in changed.items())}")
    settings = Table("setting", a, b, title="settings that changed")
    for key, values in found.settings.items():
        settings.add_row(key, *("(absent)" if value is None else _one_line(value) for value in values))
    console.print(settings)
    figures = Table("figure", a, b, "difference", title="figures on test pairs that changed")
    for name, (old, new, change) in found.figures.items():
        cells = ("" if value is None else f"{value:.4f}" for value in (old, new))
        figures.add_row(name, *cells, "" if change is None else f"{change:+.4f}")
    console.print(figures)


def print_change(version: str, former: str | None, *, as_json: bool) -> None:
    """What is in service now."""
    if as_json:
        _print_json({"version": version, "former_version": former})
    elif version == former:
        console.print(f"{version} was in service already")
    else:
        console.print(
            f"{version} is in service, in place of {former or 'nothing'}; services follow within seconds"
        )


def print_pruned(
    out: str, config: Path | None, keep: int | None, days: float | None, *, dry_run: bool, as_json: bool
) -> None:
    """What was deleted, or would be.

    Without either number the settings say both; with one of them, that one alone decides.
    """
    settings, layout = _settings(out, config), Layout(Path(out).resolve())
    registry = registry_of(out, config)
    if "://" in out or settings.publish.registry:
        _check_store_known(settings, layout)
    if keep is None and days is None:
        retention = Retention(settings.publish.keep, settings.publish.keep_days)
    else:
        retention = Retention(1 if keep is None else keep, 0.0 if days is None else days)
    gone = registry.prune(retention, lambda: _in_use(out, config), dry_run=dry_run)
    if as_json:
        _print_json({"deleted": gone, "dry_run": dry_run})
        return
    for version in gone:
        console.print(f"{'would delete' if dry_run else 'deleted'} {version}")
    if not gone:
        console.print("nothing to delete")


def prune_after_build(settings: Config, layout: Layout) -> None:
    """Keep what `publish.keep` and `publish.keep_days` say, here and in the registry; nobody there who was forgotten.

    A build does not fail of it.
    """
    publish = settings.publish
    retention = Retention(publish.keep, publish.keep_days)
    for place in [str(layout.root), *([publish.registry] if publish.registry else [])]:
        try:
            if place == publish.registry:
                _check_store_known(settings, layout)
            Registry(open_place(place)).prune(
                retention, lambda: in_use_by_store(layout, settings.serve.store)
            )
        except KindlingError as e:
            Console(stderr=True, markup=False, soft_wrap=True).print(
                f"old versions in {place} are not deleted: {e}", style="yellow"
            )
    forget_in_registry(settings, layout)


def forget_in_registry(settings: Config, layout: Layout) -> None:
    """Delete the registry's versions that know who was forgotten, but for what is in service or tried; say what stays.

    A build does not fail of it: the next one looks again.
    """
    address = settings.publish.registry
    forgotten, (item_ids, point) = Forgotten.read(layout.forgotten), withdrawn_items(layout)
    if not address or not (forgotten or item_ids):
        return
    digest, said = digest_of(forgotten, item_ids), Console(stderr=True, markup=False, soft_wrap=True)
    try:
        _check_store_known(settings, layout)
        place = open_place(address)
        clean = _searched(layout, address, digest)
        names = [name for name in place.names() if name not in clean]
        know = [
            name
            for name in names
            if knows_forgotten(place, name, forgotten) or knows_withdrawn(place, name, item_ids, point)
        ]
        gone = Registry(place).remove(know, lambda: in_use_by_store(layout, settings.serve.store))
    except KindlingError as e:
        said.print(f"versions in {address} may still know who was forgotten: {e}", style="yellow")
        return
    for name in (name for name in know if name not in gone):
        said.print(
            f"{place.where(name)} knows who was forgotten, and is in service or tried by an experiment: the first "
            "build after that deletes it.",
            style="yellow",
        )
    clean = [name for name in place.names() if name not in know]
    write_json(layout.registry_searched, {"registry": address, "digest": digest, "versions": clean})


def _searched(layout: Layout, address: str, digest: str) -> list[str]:
    """Versions that were found to know nobody, when the same was to be forgotten."""
    try:
        note = read_json(layout.registry_searched)
        return list(note["versions"]) if (note["registry"], note["digest"]) == (address, digest) else []
    except (ArtefactError, KeyError, TypeError):
        return []


def _check_store_known(settings: Config, layout: Layout) -> None:
    """See that experiments are known of which a registry's versions must not be taken.

    Raises:
        ConfigError: those of a service on another machine are not.

    """
    if not settings.serve.store and not (layout.root / "store.sqlite").is_file():
        raise ConfigError(
            "which versions experiments try is in the store of the service, which is not known here. Set serve.store "
            "to the one that all share, or run `kindling models prune` with the --out of the service."
        )


def _settings(out: str, config: Path | None) -> Config:
    return load_config(config) if "://" in out else settings_of(Layout(Path(out).resolve()), config)


def _in_use(out: str, config: Path | None) -> dict[str, list[str]]:
    """By experiments of the store that the settings name, or the one in `out`."""
    settings = _settings(out, config)
    if "://" in out and not settings.serve.store:
        return {}
    return in_use_by_store(Layout(Path(out).resolve()), settings.serve.store)


def _one_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
