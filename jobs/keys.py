"""`kindling keys`: what callers of the service show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import load_config
from pipelines.core.layout import Layout
from serving.store.keys import Key, Keys
from serving.store.store import open_store, store_url

console = Console(highlight=False, soft_wrap=True, markup=False)


@contextmanager
def keys_of(out: Path, config: Path | None) -> Iterator[Keys]:
    """The keys of the store that `kindling serve` with the same arguments uses."""
    layout = Layout(out.resolve())
    settings = load_config(config or BundlePaths(layout.bundle(current_version(layout))).config)
    store = open_store(store_url(settings.serve.store, layout.root))
    try:
        yield store.keys
    finally:
        store.close()


def print_keys(keys: list[Key]) -> None:
    """A table of them."""
    table = Table("key", "name", "scopes", "made", "expires")
    for key in keys:
        expires = "never" if key.expires_at is None else _date(key.expires_at)
        table.add_row(
            key.key_id, key.name, ", ".join(key.scopes), _date(key.created_at),
            f"{expires} (over)" if key.has_expired else expires,
        )  # fmt: skip
    console.print(table)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
