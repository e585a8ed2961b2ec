"""The commands of `kindling forget`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption

forget_app = typer.Typer(no_args_is_help=True, help="Take a user or an item out of everything that is kept.")

_STILL_THERE = 1


def _trimmed(value: str) -> str:
    """Blanks around an id are no part of it, as everywhere."""
    return value.strip()


@forget_app.command()
def user(
    user_id: Annotated[str, typer.Argument(help="Theirs.", callback=_trimmed)],
    out: OutOption,
    config: ConfigOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Forget nothing: list every place where the id still is.")
    ] = False,
) -> None:
    """Forget a user, as DELETE /v1/users/ID does; with --verify say where they still are, by exit status 1."""
    from jobs.forgetting import find_user, print_forgotten, print_places
    from jobs.places import settings_of
    from jobs.stores import store_of
    from pipelines.core.layout import Layout

    with store_of(out, config) as (store, _):
        if not verify:
            print_forgotten(user_id, store.forget(user_id))
            return
        layout = Layout(out.resolve())
        places = find_user(store, layout, user_id, settings_of(layout, config).publish.registry)
        if not print_places("user", user_id, places):
            raise typer.Exit(_STILL_THERE)


@forget_app.command()
def item(
    item_id: Annotated[str, typer.Argument(help="Its id.", callback=_trimmed)],
    out: OutOption,
    config: ConfigOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Withdraw nothing: list every place where the item still is.")
    ] = False,
) -> None:
    """Withdraw an item, as DELETE /v1/items/ID does; with --verify say where it still is, by exit status 1."""
    from jobs.forgetting import find_item, print_places, print_withdrawn
    from jobs.places import settings_of
    from jobs.stores import store_of
    from pipelines.core.layout import Layout

    with store_of(out, config) as (store, _):
        if not verify:
            store.items.withdraw(item_id)
            print_withdrawn(item_id)
            return
        layout = Layout(out.resolve())
        places = find_item(store, layout, item_id, settings_of(layout, config).publish.registry)
        if not print_places("item", item_id, places):
            raise typer.Exit(_STILL_THERE)
