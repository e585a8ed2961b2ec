"""Business rules over one catalogue: which items may be shown, what is added to their scores, what a list may hold.

Dimensions: I items, D columns of a vector.

Additions are in units of one standard deviation of the user's scores over the items. A score has no unit of its own and
no zero: twice a score would raise some items and lower others, and half a point is much to one user and nothing to
another. The deviation needs no pass over the items, for scores are linear in the vectors:

    var_i(v_i . u) = u' C u,     C the covariance of the item vectors
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.arrange import Capped
from pipelines.core.conditions import Filter, condition_mask
from pipelines.core.dates import date_seconds
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.ranking import Additions
from pipelines.core.sections.rules import FRESHNESS, Boost, Bounds, Freshness, RulesConfig

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_SAMPLE = 65_536
"""Items that the unit is taken over, spread evenly where there are more."""
_DAY = 86_400.0
_TICK = 60
"""Seconds that freshness stands still: replicas and pages agree, and a request computes no powers."""


class Spread:
    """The standard deviation of a user's scores over the items."""

    def __init__(self, vectors: FloatArray) -> None:
        """Take the covariance of (I, D) vectors."""
        step = max(1, -(-len(vectors) // _SAMPLE))
        sample = vectors[::step].astype(np.float64)
        sample -= sample.mean(axis=0) if len(sample) else 0.0
        self._covariance = sample.T @ sample / max(len(sample), 1)

    def of(self, user: FloatArray) -> float:
        """For (D,) a user."""
        wide = user.astype(np.float64)
        return math.sqrt(max(float(wide @ self._covariance @ wide), 0.0))


@dataclass(frozen=True, eq=False)
class Raised:
    """What rules add to the scores at one moment, in units.

    Attributes:
        additions: of all rules together.
        parts: (I,) values of each rule by its name.

    """

    additions: Additions
    parts: dict[str, FloatArray]

    @classmethod
    def of(cls, parts: dict[str, FloatArray]) -> Raised:
        """Add them up."""
        values = np.asarray(np.sum([*parts.values()], axis=0, dtype=np.float64), dtype=np.float32)
        return cls(Additions.of(values), parts)

    def shares(self, row: int, unit: float) -> dict[str, float]:
        """What each rule adds to an item, where it adds anything."""
        return {name: unit * float(values[row]) for name, values in self.parts.items() if values[row]}


class Rules:
    """The rules of a configuration, looked up in a catalogue once.

    Attributes:
        may_show: (I,) items in stock; None: no rule about it.
        pins: place to row.
        caps: on what a list may hold.
        remarks: what somebody should know and no answer suffers from.

    """

    def __init__(
        self,
        settings: RulesConfig,
        items: pa.Table,
        kinds: Collection[str],
        find: Callable[[str], int | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Find the items that each rule is about.

        Args:
            settings: what is wanted.
            items: their metadata.
            kinds: of events that there are.
            find: the row of an item, or None.
            clock: seconds since 1970.

        Raises:
            ConfigError: a rule names a column or a kind of event that is not there, or a column it cannot use.

        """
        self.settings = settings
        self.remarks: list[str] = []
        self._clock = clock
        self._lock = threading.Lock()
        self._raised: tuple[float, Raised | None] | None = None
        self._check_kinds(kinds)
        self._fixed = {
            f"rule: {rule.name}": np.float32(sign * rule.amount) * _meet(items, rule, name)
            for name, sign, rules in (("boost", 1.0, settings.boost), ("bury", -1.0, settings.bury))
            for rule in rules
        }
        self._born = None if settings.freshness is None else _seconds(items, settings.freshness, self.remarks)
        self.may_show = _in_stock(items, settings.stock) if settings.stock else None
        self.pins = self._find_pins(find)
        self.caps = tuple(
            Capped(_column(items, cap.column, "cap"), cap.most, cap.within) for cap in settings.cap
        )

    def _check_kinds(self, kinds: Collection[str]) -> None:
        for kind in self.settings.hide_events:
            if kind not in kinds:
                raise ConfigError(
                    f"rules.hide_events: '{kind}' is no event of this build; it knows {', '.join(kinds)} "
                    "(data.event_weights)."
                )

    def _find_pins(self, find: Callable[[str], int | None]) -> dict[int, int]:
        found = {pin.place: row for pin in self.settings.pin if (row := find(pin.item_id)) is not None}
        missing = [pin.item_id for pin in self.settings.pin if pin.place not in found]
        if missing:  # an item that has gone must not keep a new version from being published
            self.remarks.append(f"rules.pin: not in this catalogue, left out: {', '.join(missing)}")
        return found

    @property
    def raises(self) -> bool:
        """Whether any rule adds to scores."""
        return bool(self._fixed) or self._born is not None

    def raised(self) -> Raised | None:
        """What is added to scores now; None: nothing ever is."""
        now = self._clock() // _TICK * _TICK if self._born is not None else 0.0
        with self._lock:
            if self._raised is None or self._raised[0] != now:
                self._raised = (now, self._raise(now))
            return self._raised[1]

    def _raise(self, now: float) -> Raised | None:
        if not self.raises:
            return None
        parts = dict(self._fixed)
        if self._born is not None and self.settings.freshness is not None:
            parts[f"rule: {FRESHNESS}"] = _fresh(self._born, now, self.settings.freshness)
        return Raised.of(parts)

    def hides(self, kind: str | None) -> bool:
        """Whether an event of this kind keeps its item out of the user's lists; one without a kind does."""
        settings = self.settings
        if not settings.hide_seen:
            return False
        return kind is None or not settings.hide_events or kind in settings.hide_events


def check_rules(settings: RulesConfig, schema: pa.Schema, kinds: Collection[str]) -> None:
    """Raise ConfigError unless these rules can be used on items with these columns; pinned items come and go."""
    Rules(settings.model_copy(update={"pin": ()}), schema.empty_table(), kinds, lambda _: None)


def _meet(items: pa.Table, rule: Boost, kind: str) -> BoolArray:
    conditions: Filter = {}
    for column, condition in rule.when.items():
        if isinstance(condition, Bounds):
            conditions[column] = condition.model_dump(exclude_none=True)
        else:
            conditions[column] = list(condition) if isinstance(condition, tuple) else condition
    try:
        return condition_mask(items, conditions, f"rules.{kind} '{rule.name}'")
    except InputError as e:
        raise ConfigError(f"{e} Change `when` of that rule.") from e


def _column(items: pa.Table, name: str, rule: str) -> pa.ChunkedArray:
    if name not in items.column_names:
        raise ConfigError(
            f"rules.{rule}: no column '{name}'; the items have {', '.join(items.column_names)}."
        )
    column = items.column(name)
    if rule == "cap" and (pa.types.is_struct(column.type) or pa.types.is_map(column.type)):
        raise ConfigError(f"rules.cap: column '{name}' is a {column.type}; expected values or lists of them.")
    return column


def _in_stock(items: pa.Table, name: str) -> BoolArray:
    column = _column(items, name, "stock")
    if pa.types.is_boolean(column.type):
        mask = column
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        mask = pc.greater(column, pa.scalar(0, column.type))
    elif pa.types.is_decimal(column.type):
        mask = pc.greater(column.cast(pa.float64(), safe=False), 0.0)
    else:
        raise ConfigError(f"rules.stock: column '{name}' is a {column.type}; expected true/false or numbers.")
    return np.asarray(pc.fill_null(mask, False).to_numpy(), dtype=bool)


def _seconds(items: pa.Table, rule: Freshness, remarks: list[str]) -> DoubleArray:
    """(I,) since 1970, NaN where there is no date."""
    column = _column(items, rule.column, FRESHNESS)
    read = date_seconds(column)
    if read is None:
        raise ConfigError(
            f"rules.freshness: column '{rule.column}' is a {column.type}; expected dates, seconds or ISO 8601."
        )
    seconds, wrong = read
    rows = np.flatnonzero(wrong)
    if len(rows):  # one such item must not keep all others from being served
        remarks.append(
            f"rules.freshness: {len(rows)} items have no date in '{rule.column}', the first "
            f"{str(column[int(rows[0])].as_py())[:40]!r}; expected seconds since 1970 or ISO 8601"
        )
    return seconds


def _fresh(born: DoubleArray, now: float, rule: Freshness) -> FloatArray:
    """(I,) amount * 2^(-age / half-life); of what is still to come as of what came this moment."""
    age = np.maximum(now - born, 0.0) / _DAY
    return np.nan_to_num(rule.amount * np.exp2(-age / rule.half_life_days), nan=0.0).astype(np.float32)
