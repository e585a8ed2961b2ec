"""`kindling policies`: what lists have earned, and what others would have, from the log of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from jobs.stores import store_of
from pipelines.core.config import ServeConfig
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.layout import Layout
from pipelines.core.off_policy import Estimate, Evaluation, LoggedRows, evaluate, place_model
from serving.recommender import Recommender
from serving.requests import Event, Request
from serving.store.impressions import Impression, Response
from serving.store.store import Store

_AT_ONCE = 32
console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class Logged:
    """Lists and what came of them.

    Attributes:
        lists: as they were answered.
        rewards: for each, of each of its places.

    """

    lists: list[Impression]
    rewards: list[list[float]]

    def rows(self) -> LoggedRows:
        """Row by row; lists of one user are a cluster, lists of nobody one each."""
        sizes = [len(seen.items) for seen in self.lists]
        users: dict[str, int] = {}
        cluster = [
            len(self.lists) + n if seen.user_id is None else users.setdefault(seen.user_id, len(users))
            for n, seen in enumerate(self.lists)
        ]
        return LoggedRows(
            len(self.lists), np.repeat(np.arange(len(self.lists)), sizes),
            np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, dtype=np.int64),
            np.array([item.propensity for seen in self.lists for item in seen.items]),
            np.array([reward for rewards in self.rewards for reward in rewards]), np.array(cluster),
        )  # fmt: skip

    def only(self, kept: Sequence[bool]) -> Logged:
        """Some of the lists."""
        pairs = [p for p, keep in zip(zip(self.lists, self.rewards, strict=True), kept, strict=True) if keep]
        return Logged([seen for seen, _ in pairs], [rewards for _, rewards in pairs])


@dataclass(frozen=True)
class Judged:
    """Of one target policy; `value` by the mean of what was shown, else `found` by importance weighting."""

    name: str
    n_lists: int
    value: Estimate | None = None
    found: Evaluation | None = None


def judge(
    out: Path,
    config: Path | None,
    events: Sequence[str],
    versions: Sequence[str],
    since: float,
    clip: float | None,
) -> list[Judged]:
    """Every policy that was logged, then, from those that draw, the best lists and those of other versions.

    Args:
        out: of the build.
        config: whose store is read; None: the published version's.
        events: kinds that count as a success; none: any.
        versions: published ones whose lists are estimated too.
        since: seconds since 1970, UTC.
        clip: of weights.

    Raises:
        InputError: nothing was logged.
        ConfigError: a version that is not there.

    """
    layout = Layout(out.resolve())
    for version in versions:
        if not layout.bundle(version).is_dir():
            raise ConfigError(f"version '{version}' is not under {layout.bundles}. Name one that is.")
    with store_of(out, config) as (store, settings):
        logged = read(store, events, since)
        if not logged.lists:
            raise InputError("no lists are logged; serve some with explore.log = true first.")
        judged = _as_shown(logged)
        drawn = logged.only([seen.policy in ("epsilon", "thompson") for seen in logged.lists])
        if not drawn.lists:
            return judged
        judged.append(_estimated("best, without exploring", drawn, [seen.best for seen in drawn.lists], clip))
        plain = drawn.only([seen.is_plain and seen.user_id is not None for seen in drawn.lists])
        for version in versions if plain.lists else ():
            model = Recommender(layout.bundle(version))
            judged.append(
                _estimated(f"version {version}", plain, _replay(model, plain, store, settings), clip)
            )
        return judged


def read(store: Store, events: Sequence[str], since: float) -> Logged:
    """The log, a place earning 1 where an event of these kinds came of it."""
    lists, rewards = [], []
    for seen, came in store.impressions.read(since):
        wanted = {r.item_id for r in came if _counts(r, events)}
        lists.append(seen)
        rewards.append([float(item.item_id in wanted) for item in seen.items])
    return Logged(lists, rewards)


def _counts(response: Response, events: Sequence[str]) -> bool:
    return not events or response.event in events


def _as_shown(logged: Logged) -> list[Judged]:
    names = [
        f"{s.policy}, version {s.model_version}" + (f", variant {s.variant}" if s.variant else "")
        for s in logged.lists
    ]
    judged = []
    for name in sorted(set(names)):
        some = logged.only([other == name for other in names])
        rows = some.rows()
        judged.append(Judged(name, rows.n_lists, evaluate(rows, rows.propensity).ips))
    return judged


def _estimated(name: str, logged: Logged, targets: Sequence[Sequence[str]], clip: float | None) -> Judged:
    """Of a policy that shows `targets`."""
    rows = logged.rows()
    there = [
        float(k < len(target) and target[k] == item.item_id)
        for seen, target in zip(logged.lists, targets, strict=True)
        for k, item in enumerate(seen.items)
    ]
    lengths = np.array(
        [min(len(t), len(seen.items)) for seen, t in zip(logged.lists, targets, strict=True)], dtype=np.int64
    )
    target: npt.NDArray[np.float64] = np.array(there)
    return Judged(name, rows.n_lists, found=evaluate(rows, target, place_model(rows, lengths), clip))


def _replay(model: Recommender, logged: Logged, store: Store, settings: ServeConfig) -> list[list[str]]:
    """The list of a version for each request, by what was stored of the user at that moment."""
    requests = []
    for seen in logged.lists:
        assert seen.user_id is not None  # noqa: S101 - left out before
        known = store.impressions.history(seen.user_id, seen.shown_at, settings.max_events)
        stored = [Event(r.item_id, r.event, r.weight) for r in known]
        said = store.people([seen.user_id], 1)[seen.user_id].description
        requests.append(
            Request(
                seen.user_id, said, stored=stored, n=len(seen.items), diversity=0.0,
                among=None, offset=seen.first_rank - 1,
            )
        )  # fmt: skip
    answers: list[list[str]] = []
    for start in range(0, len(requests), _AT_ONCE):
        for answer in model.recommend_many(requests[start : start + _AT_ONCE]):
            answers.append([] if isinstance(answer, InputError) else [item.item_id for item in answer])
    return answers


def print_judged(judged: Sequence[Judged]) -> None:
    """A table of them."""
    table = Table(
        "lists by", "lists", "successes a list", "SNIPS", "doubly robust", "mean weight", "effective places"
    )
    doubtful = []
    for one in judged:
        if one.found is None:
            table.add_row(one.name, str(one.n_lists), _text(one.value), "", "", "", "")
            continue
        told = one.found.diagnostics
        table.add_row(
            one.name, str(one.n_lists), _text(one.found.ips), _text(one.found.snips), _text(one.found.dr),
            f"{told.mean_weight:.3f} ± {1.96 * told.mean_weight_error:.3f}",
            f"{told.effective_rows:.0f} of {told.rows}",
        )  # fmt: skip
        if not told.is_supported:
            doubtful.append(one.name)
    console.print(table)
    for name in doubtful:
        console.print(
            f"{name}: its mean weight is not 1, or too few places count: it shows what was never, or hardly, "
            "shown. Do not rely on its figures."
        )


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
