"""The commands of `kindling data import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.core.schema import TableName

import_app = typer.Typer(
    no_args_is_help=True,
    help="Make tables, and a configuration to build them with, of public data sets or of your own files.",
)

ToOption = Annotated[Path, typer.Option("--to", help="Folder to write; made whole or not at all.")]
Sha256Option = Annotated[
    list[str] | None, typer.Option("--sha256", help="Of the file; NAME=HEX where there are several.")
]
Md5Option = Annotated[
    list[str] | None, typer.Option("--md5", help="The same, for publishers who give MD5, as GroupLens.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where downloads are kept; absent: ~/.cache/kindling/downloads."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Take the place of an earlier import in that folder.")
]


@import_app.command()
def movielens(
    source: Annotated[str, typer.Argument(help="The zip as published, its folder, or its https:// address.")],
    to: ToOption,
    sha256: Sha256Option = None,
    md5: Md5Option = None,
    cache: CacheOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """MovieLens of any size: 100K, 1M, 10M, 20M, 25M, 32M, latest, latest-small."""
    from jobs.importing import Sources, import_movielens

    import_movielens(Sources([source], sha256 or [], md5 or [], cache), to, overwrite=overwrite)


@import_app.command(name="amazon-reviews-2023")
def amazon(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="meta_CATEGORY.jsonl[.gz] with CATEGORY.jsonl[.gz] or .csv[.gz]: files, addresses, a folder."
        ),
    ],
    to: ToOption,
    rated_only: Annotated[
        bool, typer.Option("--rated-only", help="Leave out items that nobody has rated.")
    ] = False,
    sha256: Sha256Option = None,
    md5: Md5Option = None,
    cache: CacheOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Amazon Reviews 2023 (McAuley Lab), one category or several, with all reviews or the 5-core ratings."""
    from jobs.importing import Sources, import_amazon

    given = Sources(sources, sha256 or [], md5 or [], cache)
    import_amazon(given, to, rated_only=rated_only, overwrite=overwrite)


@import_app.command()
def generic(  # noqa: PLR0913, PLR0917 - a file per table, and what files do not say of themselves
    to: ToOption,
    items: Annotated[
        str | None, typer.Option(help="File, folder or address of the items: what can be recommended.")
    ] = None,
    interactions: Annotated[str | None, typer.Option(help="Of who did what with which item.")] = None,
    users: Annotated[str | None, typer.Option(help="Of what users say of themselves.")] = None,
    relations: Annotated[str | None, typer.Option(help="Of items that belong to items.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="TABLE.OURS=THEIRS, such as items.item_id=sku; nothing behind = where there is none."
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of CSV and JSON Lines: gb18030, big5, cp1252 ...")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between the columns of CSV files.")] = None,
    timestamps: Annotated[
        str | None, typer.Option(help="How they are written, as in strptime: '%d.%m.%Y'.")
    ] = None,
    sha256: Sha256Option = None,
    md5: Md5Option = None,
    cache: CacheOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Your own CSV, JSON Lines or Parquet: columns are found by name and contents, and shown."""
    from jobs.importing import Sources, import_generic, options_of

    tables: dict[TableName, str | None] = {
        "items": items,
        "users": users,
        "interactions": interactions,
        "relations": relations,
    }
    given: dict[TableName, str] = {table: source for table, source in tables.items() if source is not None}
    sources = Sources(list(given.values()), sha256 or [], md5 or [], cache)
    options = options_of(column or [], encoding, delimiter, timestamps)
    import_generic(given, sources, options, to, overwrite=overwrite)
