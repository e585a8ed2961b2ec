"""`kindling forget`: a user or an item out of the store, and the proof that they are out of everything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from pipelines.core.config import Config
from pipelines.core.forgetting import Forgotten, forget_in_versions
from pipelines.core.forgetting_items import forget_items_in_versions, withdrawn_items
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.forgetting import find_id
from pipelines.core.registry.registry import open_place
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


def forget_beside_service(layout: Layout) -> list[str]:
    """Take users and items that are to be forgotten out of all versions but the one in service, which stays as it is.

    For a rebuild that publishes nothing: publishing does it by itself.

    Returns:
        The versions that knew one.

    Raises:
        BusyError: somebody else changes what is in service.

    """
    folder = Folder(layout)
    with folder.changing():
        earlier = [name for name in folder.names() if name != folder.pointer().version]
        users = forget_in_versions(layout, earlier, Forgotten.read(layout.forgotten))
        return users + forget_items_in_versions(layout, earlier, *withdrawn_items(layout))


def find_user(store: Store, layout: Layout, user_id: str, registry: str = "") -> Iterator[str]:
    """Every place of the store, of the directory of the build and of its registry where a user's id still is."""
    for place in store.forgotten.places_of(user_id):
        yield f"the store, {place}"
    for path, place in find_in_files(layout.root, user_id):
        yield f"{path}, {place}"
    if registry:
        yield from find_id(open_place(registry), user_id)


def find_item(store: Store, layout: Layout, item_id: str, registry: str = "") -> Iterator[str]:
    """Every place where an item still is but for what has to stay.

    What stays is the note that it is withdrawn and, in events and lists, that users had to do with it, in the store
    and in what a build copied of it.
    """
    stored = store.items.get(item_id)
    if stored is None or stored.fields is not None:
        yield "the store, where it is not withdrawn"
    for path, place in find_in_files(layout.root, item_id):
        if not path.is_relative_to(layout.collected):
            yield f"{path}, {place}"
    if registry:
        yield from find_id(open_place(registry), item_id)


def print_forgotten(user_id: str, n_events: int) -> None:
    """What was done, and what is left to do."""
    console.print(
        f"'{user_id}' is forgotten: {n_events} events deleted, and no version uses what it knows of them. The next "
        "`kindling build` takes them out of its files and of earlier versions. Your own tables and backups are yours "
        "to clear."
    )


def print_withdrawn(item_id: str) -> None:
    """What was done, and what is left to do."""
    console.print(
        f"'{item_id}' is withdrawn: no list shows it any more. The next `kindling build` takes it out of its files and "
        "of earlier versions; users' events with it stay. Your own tables and backups are yours to clear."
    )


def print_places(kind: str, wanted: str, places: Iterator[str]) -> bool:
    """Where a `user` or an `item` still is; whether that is nowhere."""
    n_places = 0
    for n_places, place in enumerate(places, 1):  # noqa: B007 - the last number is how many there are
        console.print(place)
    if n_places:
        console.print(
            f"'{wanted}' is in {n_places} places. A `kindling build` after `kindling forget {kind}` removes them; what "
            "is in service in a registry, or tried by an experiment, goes with the first build after that."
        )
    else:
        console.print(f"'{wanted}' is nowhere in the store or in the directory of the build.")
    return n_places == 0
