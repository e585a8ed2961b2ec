"""Business rules of a version, over its items as they are now, and what they make of one request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.arrange import Capped
from pipelines.core.bundle import BundlePaths
from pipelines.core.config import load_config
from pipelines.core.ranking import Additions
from pipelines.core.rules import Raised, Rules, Spread, check_rules
from pipelines.core.sections.rules import PIN, RulesConfig
from serving.catalogue import Catalogue

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ruled:
    """What rules make of one request; by default nothing.

    Attributes:
        raised: what they add to scores, in units.
        unit: how much one is to this user.
        caps: on what the list may hold.
        pins: place to row, of those that may be shown.

    """

    raised: Raised | None = None
    unit: float = 0.0
    caps: tuple[Capped, ...] = ()
    pins: dict[int, int] = field(default_factory=dict)

    @property
    def additions(self) -> Additions | None:
        """To the scores of all items."""
        return None if self.raised is None else self.raised.additions

    def parts(self, row: int) -> dict[str, float]:
        """Of the explanation of an item. A pin changes its place and not its score, so it adds 0."""
        parts = {} if self.raised is None else self.raised.shares(row, self.unit)
        if row in self.pins.values():
            parts[f"rule: {PIN}"] = 0.0
        return parts


class Ruling:
    """The rules of one version, looked up in its items when they are first needed."""

    def __init__(
        self, settings: RulesConfig, kinds: Collection[str], clock: Callable[[], float] = time.time
    ) -> None:
        """Take the rules and the kinds of events that there are."""
        self.settings = settings
        self._kinds = kinds
        self._clock = clock
        self._lock = threading.Lock()
        self._of: tuple[Catalogue, Rules] | None = None
        self._spread: tuple[Spread, float] | None = None
        self._told: frozenset[str] = frozenset()

    def over(self, catalogue: Catalogue) -> Rules | None:
        """The rules over these items; None: there are none.

        Raises:
            ConfigError: a rule cannot be used on them.

        """
        if not self.settings.is_set:
            return None
        with self._lock:
            if self._of is None or self._of[0] is not catalogue:
                table = _table(catalogue, self.settings.columns)
                rules = Rules(self.settings, table, self._kinds, catalogue.find, self._clock)
                if rules.raises and self._spread is None:
                    own = catalogue.bundle
                    self._spread = Spread(own.vectors), float(own.popularity.std())
                for remark in rules.remarks:
                    if remark not in self._told:  # not again with every item that comes
                        log.warning(remark)
                self._told = frozenset(rules.remarks)
                self._of = catalogue, rules
            return self._of[1]

    def following(self, catalogue: Catalogue) -> Ruling:
        """The same rules over other items, looked up already; these stay as they are for who still answers by them."""
        other = Ruling(self.settings, self._kinds, self._clock)
        other._spread, other._told = self._spread, self._told
        other.over(catalogue)
        return other

    def rule(
        self, rules: Rules, user: FloatArray | None, allowed: BoolArray | None, left_out: IntArray, *, whole: bool
    ) -> tuple[Ruled, BoolArray | None, IntArray]:  # fmt: skip
        """What is made of a request, which items it may have then, and which not.

        Args:
            rules: over the items.
            user: who asks; None: nothing is known of them.
            allowed: (I,) items that may be shown; None: all.
            left_out: rows that may not.
            whole: the caller names the items and has all of them back, so that rules have a say in their order alone.

        """
        raised, unit = rules.raised(), 0.0
        if raised is not None and self._spread is not None:
            unit = self._spread[1] if user is None else self._spread[0].of(user)
        if whole:
            return Ruled(raised, unit), allowed, left_out
        if rules.may_show is not None:
            allowed = rules.may_show if allowed is None else rules.may_show & allowed
        may_not = set(left_out.tolist()) if rules.pins else set()
        pins = {
            place: row
            for place, row in rules.pins.items()
            if row not in may_not and (allowed is None or allowed[row])
        }
        left_out = np.concatenate([left_out, np.array([*pins.values()], dtype=np.int64)])
        return Ruled(raised, unit, rules.caps, pins), allowed, left_out


def _table(catalogue: Catalogue, columns: Collection[str]) -> pa.Table:
    """Columns of all rows; what the bundle has and late items lack is null there."""
    own = catalogue.bundle.table
    if catalogue.late is None:
        return own
    late = catalogue.late.items.table
    chosen = [name for name in own.column_names if name in columns]
    parts = [table.select([c for c in chosen if c in table.column_names]) for table in (own, late)]
    joined = pa.concat_tables(parts, promote_options="default")
    # with no column chosen there is nothing to be wrong about but the names
    return joined if chosen else pa.concat_tables([t.select(["item_id"]) for t in (own, late)])


def check_against(published: BundlePaths, rules: RulesConfig | None) -> None:
    """Say before anything is started what each replica would stumble over.

    Raises:
        ConfigError: rules, which are to take the place of the bundle's own, do not fit its items.

    """
    config = load_config(published.config)
    check_rules(rules or config.rules, pq.read_schema(published.items), config.data.event_weights)
