"""The commands of `kindling models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

models_app = typer.Typer(
    no_args_is_help=True, help="Published versions: list, compare, put into service, take back, delete."
)

OutOption = Annotated[str, typer.Option("--out", help="Directory of the build, or s3://bucket/prefix.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file in place of the settings of the version in service."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
VersionArgument = Annotated[str, typer.Argument(help="As `kindling models list` shows it.")]


@models_app.command(name="list")
def list_models(out: OutOption, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print all versions, the newest first, and which is in service."""
    from jobs.models import print_versions

    print_versions(out, config, as_json=as_json)


@models_app.command()
def show(
    version: VersionArgument, out: OutOption, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print what one version is: what it was made from, its figures by slice, its settings."""
    from jobs.models import print_version

    print_version(out, config, version, as_json=as_json)


@models_app.command()
def diff(
    a: VersionArgument,
    b: VersionArgument,
    out: OutOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what changed from one version to another: settings, figures, items and users."""
    from jobs.models import print_difference

    print_difference(out, config, a, b, as_json=as_json)


@models_app.command()
def promote(
    version: VersionArgument, out: OutOption, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Put a version into service, once every byte of it has been read and found whole."""
    from jobs.models import print_change, registry_of

    former = registry_of(out, config).promote(version)
    print_change(version, former, as_json=as_json)


@models_app.command()
def rollback(out: OutOption, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put into service what was before; once more goes one further back."""
    from jobs.models import print_change, registry_of

    version, former = registry_of(out, config).rollback()
    print_change(version, former, as_json=as_json)


@models_app.command()
def prune(
    out: OutOption,
    keep: Annotated[
        int | None, typer.Option(help="So many stay, the one in service and the newest; else publish.keep.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(help="Days; younger versions stay too. Else publish.keep_days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old versions, never the one in service nor one that a running experiment tries."""
    from jobs.models import print_pruned

    print_pruned(out, config, keep, older_than, dry_run=dry_run, as_json=as_json)
