"""The world of `fortnight.py`: a generated shop whose items and users arrive day by day, and whose tastes drift.

What a visitor wants is known here alone. They look down a list as DCG discounts places, and click where they want what
they look at; now and then they find something by themselves. Every other new item is announced over HTTP, the rest
comes with the next export of the tables; whoever comes after the first day says who they are over HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.catalogue.behaviour import DAY, END
from pipelines.core.passing import looks

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
N = 10
"""Length of a list."""
_FIRST_ITEMS, _FIRST_USERS = 0.8, 0.7
"""Shares that are there on the first day."""
_DRIFTING = 0.5
"""Share of users who become, taste by taste, like somebody else until the end."""
_WANTED = 0.4
"""Chance that a visitor clicks on one of their ten best items when they look at it."""
OPENS = 3
"""The hour at which a day's new items come."""
_BY_THEMSELVES = 1.0
"""Items a visit that are found without a list, on average."""


@dataclass(frozen=True)
class Size:
    """How large the shop is, and how busy."""

    items: int = 1500
    users: int = 1200
    interactions: int = 20_000
    visits: int = 240
    """A day."""


QUICK = Size(items=300, users=200, interactions=3000, visits=72)


@dataclass
class Traffic:
    """What callers saw.

    Attributes:
        answers: status to how often; "cut off" where there was none.
        failures: the first of those that were not 200, for the page.
        acknowledged: ids of events.
        reached: for each day, per visit, the clicks that a list was worth over those of the best one: as served, and
            by the first version with all that came since.

    """

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    reached: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def count(self, answer: httpx.Response | httpx.TransportError, what: str) -> None:
        """One answer, or none."""
        status = str(answer.status_code) if isinstance(answer, httpx.Response) else "cut off"
        self.answers[status] += 1
        if status != "200" and len(self.failures) < 5:
            told = answer.text[:200] if isinstance(answer, httpx.Response) else repr(answer)
            self.failures.append(f"{what}: {told}")


class World:
    """The shop as it is, and as its owner exports it."""

    def __init__(self, size: Size, days: int, seed: int) -> None:
        """Draw everything; nothing has happened yet."""
        self.size, self.days = size, days
        self.rng = np.random.default_rng([seed, 3])
        shop = generate(
            GeneratorConfig(
                n_items=size.items, n_users=size.users, n_interactions=size.interactions, seed=seed
            )
        )
        self.items_df, self.users_df = shop.items_df, shop.users_df
        self._item_tastes, self._user_tastes = shop.item_tastes, shop.user_tastes
        self.item_day = self._arrivals(size.items, _FIRST_ITEMS)
        opened = END + OPENS * 3600 + (self.item_day - 1) * DAY
        self.items_df["created_at"] = np.where(self.item_day > 0, opened, self.items_df["created_at"])
        self.user_day = self._arrivals(size.users, _FIRST_USERS)
        self._others = self.rng.permutation(size.users)
        self._drifts = self.rng.random(size.users) < _DRIFTING
        self._popularity = -0.5 * np.log1p(self.rng.permutation(size.items))
        first_items = set(self.items_df["item_id"][self.item_day == 0])
        first_users = set(self.users_df["user_id"][self.user_day == 0])
        all_df = shop.interactions_df
        self.interactions_df = all_df[
            all_df["item_id"].isin(first_items) & all_df["user_id"].isin(first_users)
        ]
        self._shift = self._calibrate()
        self.number = {item: row for row, item in enumerate(self.items_df["item_id"])}
        self._n_events = 0

    def _arrivals(self, n: int, first: float) -> IntArray:
        days = self.rng.integers(1, self.days + 1, n)
        return np.where(self.rng.random(n) < first, 0, days)

    def _calibrate(self) -> float:
        low, high = -30.0, 30.0
        logits = np.stack([self._logits(user, 0) for user in range(min(200, self.size.users))])
        for _ in range(40):
            middle = (low + high) / 2
            best = np.sort(expit(logits + middle), axis=1)[:, -N:].mean()
            low, high = (middle, high) if best < _WANTED else (low, middle)
        return low

    def _logits(self, user: int, day: int) -> DoubleArray:
        share = day / self.days if self._drifts[user] else 0.0
        tastes = (1 - share) * self._user_tastes[user] + share * self._user_tastes[self._others[user]]
        return np.asarray(self._item_tastes @ tastes + self._popularity, dtype=np.float64)

    def wants(self, user: int, day: int) -> DoubleArray:
        """(I,) the chance of a click on each item that is looked at; 0 for those that are not there yet."""
        return np.where(self.item_day <= day, expit(self._logits(user, day) + self._shift), 0.0)

    def export(
        self, folder: Path, day: int, *, spoil: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    ) -> None:
        """Write the tables as the shop's owner does each night: items that were not announced, users of the first day.

        Args:
            folder: `--data`.
            day: items that have come until then.
            spoil: does to the items what a broken export does.

        """
        folder.mkdir(parents=True, exist_ok=True)
        announced = (self.item_day > 0) & (np.arange(self.size.items) % 2 == 0)
        items_df = self.items_df[(self.item_day <= day) & ~announced]
        tables = {
            "items": spoil(items_df) if spoil else items_df,
            "users": self.users_df[self.user_day == 0],
            "interactions": self.interactions_df,
        }
        for name, table_df in tables.items():
            part = folder / f".{name}.part"
            table_df.to_parquet(part, index=False)
            part.replace(folder / f"{name}.parquet")

    def announced(self, day: int) -> list[tuple[str, dict[str, Any]]]:
        """Items that come on a day over HTTP: id and fields."""
        rows = np.flatnonzero((self.item_day == day) & (np.arange(self.size.items) % 2 == 0))
        columns = ["title", "description", "brand", "categories", "price", "created_at"]
        chosen = self.items_df.iloc[rows]
        return [
            (
                item,
                {
                    name: value.tolist() if isinstance(value, np.ndarray) else value
                    for name, value in fields.items()
                },
            )
            for item, fields in zip(chosen["item_id"], chosen[columns].to_dict("records"), strict=True)
        ]

    def newcomers(self, day: int) -> list[tuple[str, str]]:
        """Users who come on a day and say who they are: id and words."""
        chosen = self.users_df[(self.user_day == day) & (self.users_df["description"] != "")]
        return list(zip(chosen["user_id"], chosen["description"], strict=True))

    def visitors(self, day: int, n: int) -> IntArray:
        """Rows of users who come by; who has just come does so more often."""
        weights = np.where(self.user_day <= day, np.where(self.user_day == day, 4.0, 1.0), 0.0)
        return np.asarray(self.rng.choice(self.size.users, n, p=weights / weights.sum()))

    def clicks(self, shown: Sequence[str], wants: DoubleArray) -> list[str]:
        """Which of a list are clicked, and what is found without it."""
        rows = np.array([self.number[item] for item in shown], dtype=np.int64)
        hit = self.rng.random(len(rows)) < looks(len(rows)) * wants[rows]
        chances = wants**2 / (wants**2).sum()
        found = self.rng.choice(self.size.items, self.rng.poisson(_BY_THEMSELVES), p=chances)
        return [shown[k] for k in np.flatnonzero(hit)] + [
            str(i) for i in self.items_df["item_id"].iloc[found]
        ]

    def worth(self, shown: Sequence[str], wants: DoubleArray) -> float:
        """Expected clicks of a list over those of the best one."""
        rows = [self.number[item] for item in shown]
        best = np.sort(wants)[::-1][:N]
        return float((looks(len(rows)) * wants[rows]).sum() / (looks(N) * best).sum())

    def event(self, user_id: str, item_id: str, now: datetime, request_id: str | None) -> dict[str, Any]:
        """A click as it is sent."""
        self._n_events += 1
        return {
            "event_id": f"fortnight-{self._n_events}", "user_id": user_id, "item_id": item_id, "event": "click",
            "timestamp": now.timestamp(), "request_id": request_id,
        }  # fmt: skip
