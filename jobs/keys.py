"""`kindling keys`: what callers of the service show."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from serving.store.keys import Key

console = Console(highlight=False, soft_wrap=True, markup=False)


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
