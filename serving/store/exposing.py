"""Who has seen which variant first: what is asked of the table `exposures`, within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite

from pipelines.core.experiments.comparison import Sums
from serving.experiments.definition import Metric
from serving.store.schema import events, exposures

_KEY = [exposures.c.experiment, exposures.c.user_id]


@dataclass(frozen=True)
class Exposure:
    """Somebody has been answered as an experiment says.

    Attributes:
        experiment: its name.
        user_id: who.
        variant: by which they were answered.
        first_seen: seconds since 1970, UTC.

    """

    experiment: str
    user_id: str
    variant: str
    first_seen: float


def add(connection: Connection, given: Sequence[Exposure]) -> None:
    """Write down those that are the first of their user; the others change nothing."""
    # in one order everywhere: two writers of the same rows do not wait for each other for ever
    rows = [vars(e) | {"is_merged": False} for e in sorted(given, key=lambda e: (e.experiment, e.user_id))]
    statement = _dialect(connection).insert(exposures).values(rows)
    connection.execute(statement.on_conflict_do_nothing(index_elements=_KEY))


def forget(connection: Connection, user_id: str) -> None:
    """Delete what a user has seen."""
    connection.execute(delete(exposures).where(exposures.c.user_id == user_id))


def merge(connection: Connection, user_id: str, former_id: str) -> None:
    """Give a user what another has seen; where both have seen one experiment, what came first stays."""
    table = exposures.c
    theirs = select(
        table.experiment, literal(user_id), table.variant, table.first_seen, true()
    ).where(table.user_id == former_id)  # fmt: skip
    insert = _dialect(connection).insert(exposures)
    columns = ["experiment", "user_id", "variant", "first_seen", "is_merged"]
    came_first = insert.excluded.first_seen < table.first_seen
    connection.execute(
        insert.from_select(columns, theirs).on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "variant": case((came_first, insert.excluded.variant), else_=table.variant),
                "first_seen": case((came_first, insert.excluded.first_seen), else_=table.first_seen),
                "is_merged": true(),
            },
        )
    )
    forget(connection, former_id)


def counts(connection: Connection, experiment: str) -> dict[str, tuple[int, int]]:
    """Users of each variant, and how many of them had another id before."""
    table = exposures.c
    statement = (
        select(table.variant, func.count(), func.sum(case((table.is_merged, 1), else_=0)))
        .where(table.experiment == experiment)
        .group_by(table.variant)
    )
    return {variant: (n, merged) for variant, n, merged in connection.execute(statement)}


def sums(connection: Connection, experiment: str, metric: Metric, until: float) -> dict[str, Sums]:
    """What a metric is computed from, of each variant: of the users whose time was over by `until`."""
    of_users = _of_users(metric).subquery()
    x, d = of_users.c.x, of_users.c.d
    statement = select(
        of_users.c.variant, func.count(), func.sum(x), func.sum(x * x), func.sum(d), func.sum(d * d),
        func.sum(x * d),
    ).group_by(of_users.c.variant)  # fmt: skip
    seconds = 3600 * metric.within_hours
    values = {"experiment": experiment, "seconds": seconds, "latest": until - seconds}
    return {row[0]: Sums(*row[1:]) for row in connection.execute(statement, values)}


def _of_users(metric: Metric) -> Select[tuple[str, float, float]]:
    """A row for each user: what is above the line and what is below."""
    table, when = exposures.c, func.coalesce(events.c.occurred_at, events.c.received_at)
    in_time = and_(
        events.c.user_id == table.user_id,
        when >= table.first_seen,
        when < table.first_seen + bindparam("seconds"),
    )
    # without an event there is one row for the user, of nulls
    is_one: ColumnElement[bool] = events.c.event_id.is_not(None)
    if metric.event is not None:
        is_one = and_(is_one, func.coalesce(events.c.event == metric.event, false()))
    x: ColumnElement[float] = func.sum(case((is_one, 1.0), else_=0.0))
    if metric.measure == "users":
        x = func.max(case((is_one, 1.0), else_=0.0))
    elif metric.measure == "weight":
        x = func.sum(case((is_one, events.c.weight), else_=0.0))
    d: ColumnElement[float] = literal(1.0)
    if metric.measure == "ratio":
        d = func.sum(case((events.c.event == metric.per, 1.0), else_=0.0))
    return (
        select(table.variant, x.label("x"), d.label("d"))
        .select_from(exposures.outerjoin(events, in_time))
        .where(table.experiment == bindparam("experiment"), table.first_seen <= bindparam("latest"))
        .group_by(table.user_id, table.variant)
    )


def _dialect(connection: Connection) -> ModuleType:
    return postgresql if connection.dialect.name == "postgresql" else sqlite
