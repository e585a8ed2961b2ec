"""Keys that callers show: made once, kept as hashes, with what each may do and until when."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Engine, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.core.errors import InputError
from serving.steps import step
from serving.store.schema import api_keys

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""read: lists, vectors; write: events and users too; admin: whatever there is."""

_IMPLIED: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "admin": frozenset({"read", "write", "admin"}),
}
_SHAPE = re.compile(r"kd_([0-9a-f]{12})_([0-9A-Za-z_-]{43})")
_MOST_NAME_CHARS = 100
_NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{_MOST_NAME_CHARS}}}")
_MOST_SECONDS = 100 * 365 * 86_400.0
_FIND = select(api_keys).where(api_keys.c.key_id == bindparam("wanted"))


@dataclass(frozen=True)
class Key:
    """What is known of a key without its secret.

    Attributes:
        key_id: its public half.
        name: what people call it.
        scopes: as given; `may` knows what they imply.
        created_at: seconds since 1970, UTC.
        expires_at: the same; None: never.

    """

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None

    def may(self, scope: Scope) -> bool:
        """Whether it opens what wants this scope, now."""
        return not self.has_expired and any(scope in _IMPLIED[own] for own in self.scopes)

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and time.time() >= self.expires_at


class Keys:
    """The keys of one store."""

    def __init__(self, engine: Engine) -> None:
        """Over a store whose tables are up to date."""
        self._engine = engine

    def add(self, name: str, scopes: Sequence[str], seconds: float | None = None) -> str:
        """Make a key; what is returned is shown once and kept nowhere.

        Args:
            name: for people.
            scopes: one or more of `SCOPES`.
            seconds: until it expires; None: never.

        Raises:
            InputError: a name or scope that is none.

        """
        name, unknown = name.strip(), [scope for scope in scopes if scope not in SCOPES]
        if not _NAME.fullmatch(name):
            raise InputError(
                f"a key's name has 1 to {_MOST_NAME_CHARS} characters, none of them a line end or another control "
                f"character; this one is {name[:80]!r}."
            )
        if unknown or not scopes:
            raise InputError(
                f"scopes {', '.join(unknown) or '(none)'}: expected some of {', '.join(SCOPES)}."
            )
        if seconds is not None and not 0 < seconds <= _MOST_SECONDS:
            raise InputError(
                f"a key that expires in {seconds:g} seconds: expected more than 0, and 100 years at most."
            )
        now = time.time()
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        values = {
            "key_id": key_id, "secret_hash": _hash(secret), "name": name,
            "scopes": " ".join(scope for scope in SCOPES if scope in scopes), "created_at": now,
            "expires_at": None if seconds is None else now + seconds,
        }  # fmt: skip
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(api_keys).values(values))
        except IntegrityError:  # one in 2^48
            return self.add(name, scopes, seconds)
        return f"kd_{key_id}_{secret}"

    def find(self, shown: str) -> Key | None:
        """The key that a caller shows; None where there is none such."""
        shape = _SHAPE.fullmatch(shown)
        if shape is None:
            return None
        with step("find_key"), self._engine.connect() as connection:
            row = connection.execute(_FIND, {"wanted": shape.group(1)}).first()
        # the secret has 256 random bits: a fast hash tells nothing of it
        if row is None or not hmac.compare_digest(row.secret_hash, _hash(shape.group(2))):
            return None
        return Key(row.key_id, row.name, tuple(row.scopes.split()), row.created_at, row.expires_at)

    def all(self) -> list[Key]:
        """All of them, the oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
            ).all()
        return [Key(r.key_id, r.name, tuple(r.scopes.split()), r.created_at, r.expires_at) for r in rows]

    def rotate(self, key_id: str, grace_seconds: float) -> str:
        """A new key of the same name, scopes and lifetime; the old one opens for `grace_seconds` more.

        Raises:
            InputError: there is no such key, or it has expired.

        """
        old = next((key for key in self.all() if key.key_id == key_id), None)
        if old is None:
            raise InputError(f"there is no key '{key_id}'. `kindling keys list` shows them.")
        if old.has_expired:
            raise InputError(f"key '{key_id}' has expired; `kindling keys add` makes another.")
        if not 0 <= grace_seconds <= _MOST_SECONDS:
            raise InputError(
                f"a grace of {grace_seconds:g} seconds: expected 0 or more, and 100 years at most."
            )
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        made = self.add(old.name, old.scopes, lifetime)
        until = time.time() + grace_seconds
        if old.expires_at is not None:
            until = min(until, old.expires_at)
        with self._engine.begin() as connection:
            connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(expires_at=until))
        return made

    def revoke(self, key_id: str) -> None:
        """Delete a key.

        Raises:
            InputError: there is no such key.

        """
        with self._engine.begin() as connection:
            found = connection.execute(delete(api_keys).where(api_keys.c.key_id == key_id)).rowcount
        if not found:
            raise InputError(f"there is no key '{key_id}'. `kindling keys list` shows them.")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
