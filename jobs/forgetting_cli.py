"""The commands of `kindling forget`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption

forget_app = typer.Typer(no_args_is_help=True, help="Take a user out of everything that is kept.")

_STILL_THERE = 1


@forget_app.callback()
def _forget() -> None:
    """A group, though it has one command."""


@forget_app.command()
def user(
    user_id: Annotated[str, typer.Argument(help="Theirs.")],
    out: OutOption,
    config: ConfigOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Forget nothing: list every place where the id still is.")
    ] = False,
) -> None:
    """Forget a user, as DELETE /v1/users/ID does; with --verify say where they still are, by exit status 1."""
    from jobs.forgetting import find_user, print_forgotten, print_places
    from jobs.stores import store_of
    from pipelines.core.layout import Layout

    with store_of(out, config) as (store, _):
        if not verify:
            print_forgotten(user_id, store.forget(user_id))
            return
        if not print_places(user_id, find_user(store, Layout(out.resolve()), user_id)):
            raise typer.Exit(_STILL_THERE)
