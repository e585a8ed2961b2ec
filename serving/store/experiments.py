"""Experiments, kept where every replica reads them: begun and ended without a build, and without a restart."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Row, insert, select, text, update

from pipelines.core.errors import InputError, UnknownError
from pipelines.core.experiments.assignment import Slots, is_in, reallocate, share_of, slot_of
from pipelines.core.experiments.comparison import Sums
from serving.experiments.definition import Definition, Metric, Variant
from serving.store import exposing
from serving.store.exposing import Exposure
from serving.store.schema import experiments

LAYER = "kindling experiments"
"""Salt of the hash that says which experiment a user is in: one at most, for all share one layer of slots."""
_ONE_WRITER = text("SELECT pg_advisory_xact_lock(7310034283826791013)")
_LOCK_IN_SQLITE = update(experiments).where(experiments.c.name.is_(None)).values(winner=None)
_PATIENT = text("SET LOCAL statement_timeout = 0")
_RUNNING = select(experiments).where(experiments.c.stopped_at.is_(None)).order_by(experiments.c.name)


@dataclass(frozen=True)
class Experiment:
    """One of them, as it stands.

    Attributes:
        definition: as begun.
        salt: of its variants.
        slots: of the layer, whose users are in it.
        started_at: seconds since 1970, UTC.
        stopped_at: the same; None: it runs.
        winner: the variant that was found to be best; None: none was named.

    """

    definition: Definition
    salt: str
    slots: Slots
    started_at: float
    stopped_at: float | None = None
    winner: str | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def traffic(self) -> float:
        """Share of all users."""
        return share_of(self.slots)

    def variant_of(self, user_id: str) -> Variant | None:
        """What a user sees; None: they are not in it."""
        if not is_in(self.slots, slot_of(LAYER, user_id)):
            return None
        return self.definition.variant_of(self.salt, user_id)


class Experiments:
    """The experiments of one store."""

    def __init__(self, engine: Engine) -> None:
        """Over a store whose tables are up to date."""
        self._engine = engine

    def start(self, definition: Definition) -> Experiment:
        """Begin one.

        Raises:
            InputError: its name has been used, or its traffic is not free.

        """
        with self._engine.begin() as connection:
            _lock(connection)
            if _find(connection, definition.name) is not None:
                raise InputError(
                    f"there is an experiment '{definition.name}' already; results stay under a name. Take another."
                )
            slots = _share_out(connection, definition.name, definition.traffic)
            made = Experiment(definition, secrets.token_hex(16), slots, time.time())
            connection.execute(
                insert(experiments).values(
                    name=made.name,
                    salt=made.salt,
                    definition=definition.model_dump_json(exclude_defaults=True),
                    slots=json.dumps(slots),
                    started_at=made.started_at,
                )
            )
        return made

    def set_traffic(self, name: str, traffic: float) -> Experiment:
        """Let a running one have more or fewer users; who stays in it keeps their variant.

        Raises:
            InputError: it does not run, or so much is not free.

        """
        with self._engine.begin() as connection:
            _lock(connection)
            found = _known(connection, name)
            if found.stopped_at is not None:
                raise InputError(f"experiment '{name}' has been stopped; start another.")
            slots = _share_out(connection, name, traffic)
            _set(connection, name, slots=json.dumps(slots))
            return _known(connection, name)

    def stop(self, name: str, winner: str | None = None) -> Experiment:
        """End one, or name the winner of one that was ended without.

        Raises:
            InputError: there is no such experiment or variant, or another winner was named.

        """
        with self._engine.begin() as connection:
            _lock(connection)
            found = _known(connection, name)
            names = [variant.name for variant in found.definition.variants]
            if winner is not None and winner not in names:
                raise InputError(f"experiment '{name}' has no variant '{winner}'; it has {', '.join(names)}.")
            if found.winner is not None and winner != found.winner:
                raise InputError(f"experiment '{name}' was stopped with the winner '{found.winner}'.")
            stopped_at = time.time() if found.stopped_at is None else found.stopped_at
            _set(connection, name, stopped_at=stopped_at, winner=winner)
            return _known(connection, name)

    def all(self) -> list[Experiment]:
        """All of them, the newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(experiments).order_by(experiments.c.started_at.desc(), experiments.c.name)
            ).all()
        return [_experiment(row) for row in rows]

    def running(self) -> list[Experiment]:
        """Those in progress."""
        with self._engine.connect() as connection:
            return [_experiment(row) for row in connection.execute(_RUNNING).all()]

    def get(self, name: str) -> Experiment:
        """One of them.

        Raises:
            InputError: there is none such.

        """
        with self._engine.connect() as connection:
            return _known(connection, name)

    def expose(self, given: Sequence[Exposure]) -> None:
        """Write down who has seen what, where it is the first time."""
        with self._engine.begin() as connection:
            exposing.add(connection, given)

    def outcomes(
        self, name: str, metrics: Sequence[Metric], until: float, *, is_patient: bool = False
    ) -> tuple[dict[str, tuple[int, int]], list[dict[str, Sums]]]:
        """What users have done, all as of one moment.

        Args:
            name: of the experiment.
            metrics: to be summed.
            until: users count whose time was over then.
            is_patient: wait for the answer however long it takes, which a request cannot.

        Returns:
            Of each variant the users, and how many of them had another id before; the sums of each metric by variant.

        """
        # one snapshot for all statements: in SQLite a transaction has it, PostgreSQL has to be asked
        engine = self._engine
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.begin() as connection:
            if is_patient and engine.dialect.name == "postgresql":
                connection.execute(_PATIENT)
            counts = exposing.counts(connection, name)
            return counts, [exposing.sums(connection, name, metric, until) for metric in metrics]


def _lock(connection: Connection) -> None:
    """One change at a time: what is free is still free when it is taken."""
    connection.execute(_ONE_WRITER if connection.dialect.name == "postgresql" else _LOCK_IN_SQLITE)


def _share_out(connection: Connection, name: str, traffic: float) -> Slots:
    others = {row.name: _slots(row.slots) for row in connection.execute(_RUNNING)}
    held = {name: others.pop(name, ())}
    free = 1 - sum(share_of(slots) for slots in others.values())
    if traffic > free + 1e-9:
        raise InputError(
            f"experiment '{name}': traffic is {traffic:g}, but {free:.4g} of all users are in no other experiment "
            f"({', '.join(others)}). Take less, or stop one."
        )
    shares = {other: share_of(slots) for other, slots in others.items()}
    return reallocate(held | others, shares | {name: traffic})[name]


def _set(connection: Connection, name: str, **values: object) -> None:
    connection.execute(update(experiments).where(experiments.c.name == name).values(**values))


def _find(connection: Connection, name: str) -> Experiment | None:
    row = connection.execute(select(experiments).where(experiments.c.name == name)).first()
    return None if row is None else _experiment(row)


def _known(connection: Connection, name: str) -> Experiment:
    found = _find(connection, name)
    if found is None:
        raise UnknownError(f"there is no experiment '{name[:80]}'. `kindling experiments list` shows them.")
    return found


def _slots(stored: str) -> Slots:
    return tuple((first, end) for first, end in json.loads(stored))


def _experiment(row: Row[tuple[object, ...]]) -> Experiment:
    definition = Definition.model_validate_json(row.definition)
    return Experiment(definition, row.salt, _slots(row.slots), row.started_at, row.stopped_at, row.winner)
