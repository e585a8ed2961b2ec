"""`kindling forget`: a user out of the store, and the proof that they are out of everything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from pipelines.core.config import Config
from pipelines.core.forgetting import Forgotten
from pipelines.core.layout import Layout
from pipelines.core.searching import find_in_files
from serving.store.connecting import store_url
from serving.store.store import Store, open_store

console = Console(highlight=False, soft_wrap=True, markup=False)


def note_forgotten(config: Config, layout: Layout) -> None:
    """Write down for the stages whom the service was asked to forget.

    Who is noted stays so when the store is lost: a build never brings anybody back.

    Raises:
        ArtefactError: the store is there and cannot be asked.

    """
    url = store_url(config.serve.store, layout.root)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return  # no service has ever run here
    store = open_store(url)
    try:
        (Forgotten.read(layout.forgotten) | store.forgotten.all()).write(layout.forgotten)
    finally:
        store.close()


def find_user(store: Store, layout: Layout, user_id: str) -> Iterator[str]:
    """Every place of the store and of the directory of the build where a user's id still is."""
    for place in store.forgotten.places_of(user_id):
        yield f"the store, {place}"
    for path, place in find_in_files(layout.root, user_id):
        yield f"{path}, {place}"


def print_forgotten(user_id: str, n_events: int) -> None:
    """What was done, and what is left to do."""
    console.print(
        f"'{user_id}' is forgotten: {n_events} events deleted, and no version uses what it knows of them. The next "
        "`kindling build` takes them out of its files and of earlier versions. Your own tables and backups are yours "
        "to clear."
    )


def print_places(user_id: str, places: Iterator[str]) -> bool:
    """Where they still are; whether that is nowhere."""
    n_places = 0
    for n_places, place in enumerate(places, 1):  # noqa: B007 - the last number is how many there are
        console.print(place)
    if n_places:
        console.print(
            f"'{user_id}' is in {n_places} places. A `kindling build` after `kindling forget user` removes them."
        )
    else:
        console.print(f"'{user_id}' is nowhere in the store or in the directory of the build.")
    return n_places == 0
