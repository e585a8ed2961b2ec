"""The commands of `kindling data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from jobs.importing_cli import import_app
from jobs.options import ConfigOption
from pipelines.core.config import load_config
from pipelines.core.errors import InputError

data_app = typer.Typer(no_args_is_help=True, help="Generate, import and check data.")
data_app.add_typer(import_app, name="import")


@data_app.command()
def generate(
    directory: Annotated[Path, typer.Argument(help="Folder to write; made if absent.")],
    items: Annotated[int, typer.Option(help="Number of items.")] = 2000,
    users: Annotated[int, typer.Option(help="Number of users.")] = 3000,
    interactions: Annotated[int, typer.Option(help="Number of interactions.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Same seed, same catalogue.")] = 7,
) -> None:
    """Write a catalogue with English and Chinese texts, users and interactions."""
    from pipelines.core.catalogue import GeneratorConfig
    from pipelines.core.catalogue import generate as generate_catalogue
    from pipelines.core.catalogue import write as write_catalogue

    try:
        settings = GeneratorConfig(n_items=items, n_users=users, n_interactions=interactions, seed=seed)
        catalogue = generate_catalogue(settings)
    except ValidationError as e:
        raise InputError("; ".join(str(problem["msg"]) for problem in e.errors())) from e
    except ValueError as e:
        raise InputError(str(e)) from e
    for name, path in write_catalogue(catalogue, directory).items():
        print(f"{name}: {path}")


@data_app.command()
def validate(
    directory: Annotated[str, typer.Argument(help="Folder, s3:// or gs:// address of the tables.")],
    config: ConfigOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on any rejected row and on whatever looks odd.")
    ] = False,
) -> None:
    """Read the tables as a build would; say what is wrong with which rows, and which settings fit. Writes nothing."""
    from jobs.validation import print_validation

    if not print_validation(directory, load_config(config), strict=strict):
        raise typer.Exit(InputError.exit_code)
