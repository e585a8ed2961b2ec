"""The commands of `kindling keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption

KeyArgument = Annotated[str, typer.Argument(help="As `kindling keys list` shows it.")]
keys_app = typer.Typer(no_args_is_help=True, help="Keys that callers of the service show.")


@keys_app.command(name="add")
def add_key(
    name: Annotated[str, typer.Argument(help="For people: who will use it.")],
    out: OutOption,
    scope: Annotated[list[str] | None, typer.Option(help="read, write or admin; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="Until it expires; absent: never.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it; it is shown this once."""
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        typer.echo(store.keys.add(name, scope or ["read"], None if days is None else days * 86400))


@keys_app.command(name="list")
def list_keys(out: OutOption, config: ConfigOption = None) -> None:
    """Print what is known of all keys."""
    from jobs.keys import print_keys
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        print_keys(store.keys.all())


@keys_app.command(name="rotate")
def rotate_key(
    key_id: KeyArgument,
    out: OutOption,
    grace_hours: Annotated[float, typer.Option(help="For which the old one goes on opening.")] = 24.0,
    config: ConfigOption = None,
) -> None:
    """Make a key in the place of another and print it."""
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        typer.echo(store.keys.rotate(key_id, grace_hours * 3600))


@keys_app.command(name="revoke")
def revoke_key(key_id: KeyArgument, out: OutOption, config: ConfigOption = None) -> None:
    """Delete a key; within five seconds it opens nothing."""
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        store.keys.revoke(key_id)
