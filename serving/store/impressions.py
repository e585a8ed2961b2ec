"""Lists that were answered, with the propensity of each item at its place, and how often each item was shown.

Written in groups, after the answer: see `serving.logging_lists`. A list is there whole and once, or not at all, and is
counted in the same transaction.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Engine, Row, bindparam, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from pipelines.core.forgetting import user_hash
from pipelines.core.passing import looks
from serving.store.schema import events, forgotten, impressions, item_impressions

_AT_ONCE = 500
"""Rows of one statement."""
_LATE_SECONDS = 60.0
"""A transaction that began so long ago may be read only now."""
_ONE_WRITER = text("SELECT pg_advisory_xact_lock(7310034283826791013)")
_wanted: BindParameter[Any] = bindparam("wanted", expanding=True)
_GONE = select(forgotten.c.user_hash, forgotten.c.forgotten_at).where(forgotten.c.user_hash.in_(_wanted))
_NEWEST = (
    select(impressions.c["items"], impressions.c.first_rank)
    .where(impressions.c.user_id == bindparam("user_id"))
    .order_by(impressions.c.seq.desc())
    .limit(bindparam("most"))
)
_CAME_OF = select(events).where(events.c.request_id.in_(_wanted))


@dataclass(frozen=True)
class ShownItem:
    """One place of a list.

    Attributes:
        item_id: the item.
        score: as the model has it, without what exploring added.
        propensity: of just this item at just this place, under the policy that answered.

    """

    item_id: str
    score: float
    propensity: float


@dataclass(frozen=True)
class Impression:
    """A list that was answered.

    Attributes:
        request_id: of the answer; events name it.
        user_id: who asked; None: nobody was named.
        shown_at: seconds since 1970, UTC.
        model_version: that answered.
        policy: by which places were chosen, see `explore.policy`.
        variant: of an experiment; None: there was none.
        first_rank: of the first place, above 1 on later pages.
        is_plain: whether nothing was asked but a list for the user: no words, events, filter or items of the request.
        items: in the order of places.
        best: what would have been shown without exploring.

    """

    request_id: str
    user_id: str | None
    shown_at: float
    model_version: str
    policy: str
    variant: str | None
    first_rank: int
    is_plain: bool
    items: Sequence[ShownItem]
    best: Sequence[str]


@dataclass(frozen=True)
class Response:
    """An event that may have come of a list; its fields are those of `store.StoredEvent`."""

    request_id: str | None
    user_id: str
    item_id: str
    event: str | None
    weight: float


class Impressions:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        """Over a store whose tables are up to date."""
        self._engine = engine
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._insert = (postgresql if self._is_postgresql else sqlite).insert

    def add(self, given: Sequence[Impression]) -> int:
        """Write lists down and count what they show; all of them or, where this raises, none.

        A request id that is there already keeps its first list. Lists of users who were forgotten since are left out.

        Returns:
            Number of new ones.

        """
        if not given:
            return 0
        first: dict[str, Impression] = {}
        for impression in given:
            first.setdefault(impression.request_id, impression)
        rows = [_row(i) for i in first.values()]
        fresh: set[str] = set()
        with self._engine.begin() as connection:
            self._lock(connection)
            for start in range(
                0, len(rows), _AT_ONCE
            ):  # writing first: SQLite locks at once, and waits for it
                statement = (
                    self._insert(impressions)
                    .values(rows[start : start + _AT_ONCE])
                    .on_conflict_do_nothing(index_elements=[impressions.c.request_id])
                    .returning(impressions.c.request_id)
                )
                fresh.update(connection.execute(statement).scalars())
            kept = self._without_forgotten(connection, [first[name] for name in first if name in fresh])
            self._count(connection, kept)
        return len(kept)

    def _without_forgotten(self, connection: Connection, given: Sequence[Impression]) -> list[Impression]:
        """What may stay of what was just written."""
        hashes = {user: user_hash(user) for user in {i.user_id for i in given} if user is not None}
        if not hashes:
            return list(given)
        gone: dict[str, float] = {}
        every = list(hashes.values())
        for start in range(0, len(every), _AT_ONCE):
            for row in connection.execute(_GONE, {"wanted": every[start : start + _AT_ONCE]}):
                gone[row.user_hash] = row.forgotten_at
        kept = [
            i for i in given if i.user_id is None or i.shown_at > gone.get(hashes[i.user_id], float("-inf"))
        ]
        names = {i.request_id for i in given} - {i.request_id for i in kept}
        if names:
            connection.execute(delete(impressions).where(impressions.c.request_id.in_(names)))
        return kept

    def _count(self, connection: Connection, given: Sequence[Impression]) -> None:
        counts = Counter(item.item_id for i in given for item in i.items)
        if not counts:
            return
        insert, now = self._insert(item_impressions), time.time()
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[item_impressions.c.item_id],
                set_={
                    "shown": item_impressions.c.shown + insert.excluded.shown,
                    "updated_at": insert.excluded.updated_at,
                },
            ),
            [{"item_id": item, "shown": n, "updated_at": now} for item, n in sorted(counts.items())],
        )

    def counts_since(self, moment: float) -> dict[str, int]:
        """How often items have been shown in all, of those whose number may have changed since then."""
        statement = select(item_impressions.c.item_id, item_impressions.c.shown).where(
            item_impressions.c.updated_at >= moment - _LATE_SECONDS
        )
        with self._engine.connect() as connection:
            return {row.item_id: int(row.shown) for row in connection.execute(statement)}

    def passed(self, user_ids: Sequence[str], most: int) -> dict[str, dict[str, float]]:
        """Of each user the items of their newest `most` lists, with how often each was looked at by its places."""
        found: dict[str, dict[str, float]] = {}
        with self._engine.connect() as connection:
            for user_id in dict.fromkeys(user_ids):
                seen = found[user_id] = {}
                for row in connection.execute(_NEWEST, {"user_id": user_id, "most": most}):
                    items = json.loads(row.items)
                    for (item, *_), looked in zip(
                        items, looks(len(items), row.first_rank).tolist(), strict=True
                    ):
                        seen[item] = seen.get(item, 0.0) + looked
        return found

    def read(self, since: float = 0.0) -> Iterator[tuple[Impression, list[Response]]]:
        """Every list from then on, in the order written, with the events of its user that name it."""
        last = 0
        while True:
            statement = (
                select(impressions)
                .where(impressions.c.seq > last, impressions.c.shown_at >= since)
                .order_by(impressions.c.seq)
                .limit(_AT_ONCE)
            )
            with self._engine.connect() as connection:
                rows = connection.execute(statement).all()
                names = [row.request_id for row in rows]
                came: dict[str, list[Response]] = {name: [] for name in names}
                for e in connection.execute(_CAME_OF, {"wanted": names}) if names else ():
                    came[e.request_id].append(Response(e.request_id, e.user_id, e.item_id, e.event, e.weight))
            if not rows:
                return
            for row in rows:
                mine = [r for r in came[row.request_id] if row.user_id is None or r.user_id == row.user_id]
                yield _impression(row), mine
            last = rows[-1].seq

    def history(self, user_id: str, moment: float, most: int) -> list[Response]:
        """The newest events of a user that had been received by then, oldest first."""
        statement = (
            select(events)
            .where(events.c.user_id == user_id, events.c.received_at < moment)
            .order_by(events.c.seq.desc())
            .limit(most)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return [Response(e.request_id, e.user_id, e.item_id, e.event, e.weight) for e in reversed(rows)]

    def prune(self, before: float) -> int:
        """Delete lists shown before then, a few at a time; how often items were shown stays. Returns their number."""
        deleted = 0
        while True:
            with self._engine.begin() as connection:
                some = select(impressions.c.seq).where(impressions.c.shown_at < before).limit(_AT_ONCE)
                found = connection.execute(
                    delete(impressions).where(impressions.c.seq.in_(some.scalar_subquery()))
                ).rowcount
            deleted += found
            if found < _AT_ONCE:
                return deleted

    def move(self, connection: Connection, user_id: str, former_id: str) -> None:
        """Give a user the lists of another, within a transaction of the store."""
        self._lock(connection)
        connection.execute(
            update(impressions).where(impressions.c.user_id == former_id).values(user_id=user_id)
        )

    def forget(self, connection: Connection, user_id: str) -> None:
        """Delete the lists of a user, within a transaction that has noted that they are forgotten."""
        self._lock(connection)
        connection.execute(delete(impressions).where(impressions.c.user_id == user_id))

    def _lock(self, connection: Connection) -> None:
        """One writer at a time in PostgreSQL too, or a list could slip in while its user is being forgotten."""
        if self._is_postgresql:
            connection.execute(_ONE_WRITER)


def _row(impression: Impression) -> dict[str, object]:
    items = [[i.item_id, round(i.score, 6), i.propensity] for i in impression.items]
    texts = {"items": items, "best": list(impression.best)}
    return vars(impression) | {
        name: json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for name, value in texts.items()
    }


def _impression(row: Row[Any]) -> Impression:
    return Impression(
        row.request_id, row.user_id, row.shown_at, row.model_version, row.policy, row.variant, row.first_rank,
        row.is_plain, [ShownItem(*item) for item in json.loads(row.items)], json.loads(row.best),
    )  # fmt: skip
