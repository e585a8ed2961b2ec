"""Whom an experiment has answered otherwise, and that they have seen it.

    request with a user_id -> the experiment its user is in, if any -> the variant's settings -> the answer -> exposure

An experiment one of whose variants cannot be answered here (its version is gone, or still being loaded) takes no part
for anybody: were only the users of that variant left out, those who remain would not be comparable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from serving.answering import Current
from serving.batching import Batcher
from serving.experiments.definition import Variant, VariantSettings
from serving.experiments.versions import OtherVersions
from serving.recommender import Recommender
from serving.remembering import Remembered
from serving.requests import Request
from serving.store.experiments import Experiment, Experiments
from serving.store.exposing import Exposure

log = logging.getLogger(__name__)

_MOST_TOGETHER = 256
_MOST_WAITING = 10_000
"""Exposures while the store does not answer; beyond it they are left for the user's next request."""
_MOST_REMEMBERED = 100_000
_REMEMBERED_SECONDS = 600.0
"""Then an exposure is written again, which changes nothing unless it was deleted: who was forgotten is back."""
_MOST_WAIT_SECONDS = 0.5
"""For the first look of a replica; without it requests are answered as if there were no experiment."""


@dataclass(frozen=True)
class Part:
    """How an experiment has a user answered.

    Attributes:
        experiment: its name.
        variant: the user's.
        user_id: who.
        model: that answers; None: the version in service.

    """

    experiment: str
    variant: str
    user_id: str
    model: Recommender | None


class Participation:
    """The experiments as this replica knows them, and what it has to write down."""

    def __init__(
        self, experiments: Experiments, current: Current, others: OtherVersions | None, seconds: float
    ) -> None:
        """Nothing is read before somebody asks.

        Args:
            experiments: of the store.
            current: the version in service.
            others: beside it; None: there are none.
            seconds: from one look at the store to the next.

        """
        self._experiments = experiments
        self._current = current
        self._others = others
        self._seconds = seconds
        self._running: list[Experiment] = []
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._seen: Remembered[tuple[str, str], float] = Remembered(_MOST_REMEMBERED)
        self._batcher = Batcher(self._write, _MOST_TOGETHER, "kindling-exposures")
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> tuple[Request, Part | None]:
        """The request as its user is to be answered, and the part an experiment has in it."""
        if request.user_id is None:
            return request, None
        await self._look()
        for experiment in self._running:
            variant = experiment.variant_of(request.user_id)
            if variant is None:
                continue
            variants = experiment.definition.variants
            # asked of all variants, not of the user's own: who counts must not depend on what they see
            if self.why_not(experiment) or not any(_matters(v.settings, request) for v in variants):
                return request, None
            return self._as(request, request.user_id, experiment, variant)
        return request, None

    def why_not(self, experiment: Experiment) -> str:
        """What keeps an experiment from taking part here; empty: nothing does."""
        for variant in experiment.definition.variants:
            version, gamma = variant.settings.version, variant.settings.gamma
            model = self._current()
            if version is not None:
                if self._others is None:
                    return f"variant {variant.name}: this service has no other versions"
                if reason := self._others.why_not(version):
                    return f"variant {variant.name}: {reason}"
                model = self._others(version)
            if gamma is not None and (model is None or not model.config.blend.gamma):
                return f"variant {variant.name}: gamma has no part in a version made with blend.gamma = 0"
        return ""

    def note(self, part: Part) -> None:
        """Have it written down, later, that a user was answered so; the answer does not wait.

        A replica that is killed before may lose it. The user's next request then is their first.
        """
        now, seen = time.monotonic(), self._seen.get((part.experiment, part.user_id))
        if (seen is not None and now - seen < _REMEMBERED_SECONDS) or len(self._writing) >= _MOST_WAITING:
            return
        self._seen.put((part.experiment, part.user_id), now)
        exposure = Exposure(part.experiment, part.user_id, part.variant, time.time())
        task = asyncio.get_running_loop().create_task(self._write_down(exposure))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def look_again(self) -> None:
        """Read the experiments at the next request: one was changed through this replica."""
        self._looked_at = float("-inf")

    def _as(
        self, request: Request, user_id: str, experiment: Experiment, variant: Variant
    ) -> tuple[Request, Part | None]:
        wanted = variant.settings
        model = self._others(wanted.version) if wanted.version is not None and self._others else None
        if wanted.version is not None and model is None:  # another version has come into service this moment
            return request, None
        if wanted.diversity is not None and request.diversity is None:
            request = replace(request, diversity=wanted.diversity)
        if wanted.gamma is not None:
            request = replace(request, gamma=wanted.gamma)
        return request, Part(experiment.name, variant.name, user_id, model)

    async def _look(self) -> None:
        """Read the store when it is time; only the first look is waited for."""
        is_first = self._looked_at == float("-inf")
        if self._looking is None and time.monotonic() - self._looked_at >= self._seconds:
            self._looking = asyncio.get_running_loop().create_task(self._read())
        if is_first and self._looking is not None:
            await asyncio.wait({self._looking}, timeout=_MOST_WAIT_SECONDS)

    async def _read(self) -> None:
        try:
            self._running = await run_in_threadpool(self._experiments.running)
        except SQLAlchemyError as e:
            log.warning("experiments cannot be read, those known go on: %s", type(e).__name__)
        else:
            if self._others is not None:
                settings = [v.settings for e in self._running for v in e.definition.variants]
                self._others.keep(frozenset(s.version for s in settings if s.version is not None))
        finally:
            self._looked_at = time.monotonic()
            self._looking = None

    async def _write_down(self, exposure: Exposure) -> None:
        try:
            await self._batcher(exposure)
        except SQLAlchemyError as e:
            self._seen.put((exposure.experiment, exposure.user_id), float("-inf"))
            log.warning("an exposure was not written down, the next request will be: %s", type(e).__name__)

    def _write(self, batch: Sequence[Exposure]) -> Sequence[Exception | None]:
        try:
            self._experiments.expose(batch)
        except SQLAlchemyError as e:
            return [e] * len(batch)
        return [None] * len(batch)


def _matters(settings: VariantSettings, request: Request) -> bool:
    """Whether a request would be answered otherwise; what it says itself goes before a variant."""
    return (
        settings.version is not None
        or settings.gamma is not None
        or (settings.diversity is not None and request.diversity is None)
    )
