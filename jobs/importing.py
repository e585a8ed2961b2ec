"""`kindling data import`: fetch the sources, let an importer write the tables, say what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipelines.core.errors import ConfigError
from pipelines.core.importers import amazon, generic, movielens
from pipelines.core.importers.archives import open_files
from pipelines.core.importers.checksums import digest, is_url, parse_checksums
from pipelines.core.importers.download import default_cache, fetch
from pipelines.core.importers.guess import NAMES
from pipelines.core.importers.running import Imported, Made, run_import
from pipelines.core.importers.staging import Staging
from pipelines.core.importers.watching import Bars
from pipelines.core.schema import TABLES, TableName
from pipelines.progress import Progress

console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class Sources:
    """What the command line says of where data comes from."""

    names: Sequence[str]
    sha256: Sequence[str]
    md5: Sequence[str]
    cache: Path | None

    def fetch(self, bars: Bars) -> dict[str, Path]:
        """Where each source lies on this machine, whole and checked."""
        checksums = parse_checksums(self.names, self.sha256, self.md5)
        place = self.cache or default_cache()
        found = {name: fetch(name, place, checksums[name], bars) for name in self.names}
        for name, path in found.items():
            if is_url(name) and not checksums[name]:
                console.print(
                    f"{name}: no checksum was given; --sha256 {digest(path, 'sha256')} asks for this very file"
                )
        return found


def import_movielens(sources: Sources, to: Path, *, overwrite: bool) -> None:
    """Import MovieLens and print what came of it."""
    bars = Progress().bar
    found = sources.fetch(bars)
    (path,) = found.values()

    def make(work: Staging) -> Made:
        return Made(movielens.import_movielens(open_files(path), work, bars), movielens.CONFIG)

    _print(run_import("movielens", found, to, {}, make, overwrite=overwrite))


def import_amazon(sources: Sources, to: Path, *, rated_only: bool, overwrite: bool) -> None:
    """Import Amazon Reviews 2023 and print what came of it."""
    bars = Progress().bar
    found = sources.fetch(bars)

    def make(work: Staging) -> Made:
        kinds = amazon.find_sources(list(found.values()))
        return Made(amazon.import_amazon(kinds, work, bars, rated_only=rated_only), amazon.CONFIG)

    _print(
        run_import("amazon-reviews-2023", found, to, {"rated_only": rated_only}, make, overwrite=overwrite)
    )


def options_of(
    columns: Sequence[str], encoding: str | None, delimiter: str | None, moments: str | None
) -> generic.Options:
    """What the command line says of somebody's own files.

    Raises:
        ConfigError: a column that is not ours, or a table that is none.

    """
    given: dict[tuple[TableName, str], str] = {}
    for said in columns:
        ours, equals, theirs = said.partition("=")
        table, dot, name = ours.partition(".")
        tables = [t for t in TABLES if t == table and name in NAMES[t]]
        if not (equals and dot and tables):
            known = ", ".join(f"{t}.{n}" for t in TABLES for n in NAMES[t])
            raise ConfigError(f"--column {said}: expected TABLE.OURS=THEIRS, the first part one of {known}.")
        given[tables[0], name] = theirs
    if delimiter is not None and len(delimiter) != 1:
        raise ConfigError(f"--delimiter {delimiter!r}: expected one character.")
    return generic.Options(given, encoding, delimiter, moments)


def import_generic(
    given: Mapping[TableName, str], sources: Sources, options: generic.Options, to: Path, *, overwrite: bool
) -> None:
    """Import somebody's own tables and print what was guessed and what came of it."""
    if "items" not in given:
        raise ConfigError("--items is missing: without items there is nothing to recommend. Give their file.")
    bars = Progress().bar
    found = sources.fetch(bars)

    def make(work: Staging) -> Made:
        paths = {table: found[source] for table, source in given.items()}
        return Made(*generic.import_generic(paths, options, work, bars))

    said = {**vars(options), "given": sorted(map(str, options.given.items())), "tables": dict(given)}
    _print(run_import("generic", found, to, said, make, overwrite=overwrite))


def _print(imported: Imported) -> None:
    if not imported.is_new:
        console.print(f"{imported.destination} has this import already; nothing was done")
    for what, rows in imported.record["rows"].items():
        console.print(f"{what}: {rows['kept']} of {rows['read']}")
        for reason, n in {**rows["bad"], **rows["left_out"]}.items():
            example = rows["examples"].get(reason)
            console.print(f"    {n} left out: {reason}" + (f", for example {example}" if example else ""))
    for remark in imported.record["remarks"]:
        console.print(remark)
    where = imported.destination
    console.print(f"next: kindling build --data {where} --config {imported.config} --out OUT")
