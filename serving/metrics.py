"""What the service counts and times, one set for each process, as Prometheus reads it. Knows nothing of Ray.

Numbers only: no id and no text of anybody is a label. docs/monitoring.md says what each metric means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serving.recommender import Recommender
from serving.requests import Recommended, Source
from serving.steps import STORE_STEPS, Step
from serving.store.store import Outcome, StoredEvent

PREFIX = "kindling_"
Reason = Literal[
    "overload", "timeout", "rate_limit", "key", "scope", "too_large", "invalid", "store", "not_ready", "error"
]
"""Why a request was not answered."""
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STEP_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 5)
_LAG_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_STRONGEST: tuple[Source, ...] = ("fold_in", "hot", "text", "fallback")


class Holding(Protocol):
    """A source of the version in service that can refuse what is published; see `serving.holder`."""

    refusals: int
    refuses: bool


class Meters:
    """All metrics of one process. They are cheap: an observation is about a microsecond."""

    def __init__(self, replica: str = "") -> None:
        """Begin at zero.

        Args:
            replica: a name that is put on every sample as the label `replica`; empty: none is.

        """
        self._labels = {"replica": replica} if replica else {}
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def seconds(name: str, what: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}{name}", what, labels, buckets=buckets, registry=registry)

        def counters(name: str, what: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
            # each begins at zero: of a counter that begins at one Prometheus would never see the first rise
            whole = Counter(f"{PREFIX}{name}", what, [label], registry=registry)
            return {value: whole.labels(value) for value in values}

        self._requests = seconds(
            "request_seconds", "Requests from first to last byte of the answer.", _REQUEST_BUCKETS,
            "method", "route", "status",
        )  # fmt: skip
        self.in_progress = Gauge(
            f"{PREFIX}requests_in_progress", "Requests that are being answered or wait for it.",
            registry=registry,
        )  # fmt: skip
        self._answered: dict[tuple[str, str, int], Histogram] = {}
        self._refused = counters(
            "requests_refused", "Requests that were not answered, by reason.", "reason", get_args(Reason)
        )
        self._lists = counters(
            "lists",
            "Lists answered, by the strongest source of an item in it.",
            "source",
            (*_STRONGEST, "empty"),
        )
        self._items = counters("items_shown", "Items in lists, by source.", "source", _STRONGEST)
        self._cold = Counter(
            f"{PREFIX}cold_items_shown",
            "Items in lists that nobody had touched in training.",
            registry=registry,
        )
        self._encode = seconds("encode_seconds", "Encoding the new texts of a batch.", _STEP_BUCKETS)
        self._texts = seconds("encode_texts", "New texts of a batch.", _SIZE_BUCKETS)
        self._fold_in = seconds("fold_in_seconds", "Solving for one user.", _STEP_BUCKETS)
        self._rank = seconds("rank_seconds", "Ranking for the users of a batch.", _STEP_BUCKETS)
        self._events = counters(
            "events", "Events of acknowledged requests, by outcome.", "outcome", get_args(Outcome)
        )
        self._lag = seconds(
            "event_lag_seconds", "From an event's timestamp to its acknowledgement.", _LAG_BUCKETS
        )
        store = seconds(
            "store_seconds", "Waiting for the store, once a batch.", _STEP_BUCKETS, "operation", "outcome"
        )
        self._store = {
            (name, has_failed): store.labels(name, "failed" if has_failed else "ok")
            for name in STORE_STEPS
            for has_failed in (False, True)
        }

    def watch_model(self, current: Callable[[], Recommender | None]) -> None:
        """Say which version is in service, and how old it is."""
        self._registry.register(_OfModel(current))

    def watch_bundles(self, holder: Holding) -> None:
        """Say what is published and refused."""
        self._registry.register(_OfBundles(holder))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered, whatever the answer."""
        key = method, route, status
        if (meter := self._answered.get(key)) is None:
            meter = self._answered[key] = self._requests.labels(method, route, str(status))
        meter.observe(seconds)

    def refused(self, reason: Reason) -> None:
        """A request was not answered."""
        self._refused[reason].inc()

    def listed(self, model: Recommender, items: Sequence[Recommended]) -> None:
        """A list goes out."""
        n_of: dict[Source, int] = {}
        for item in items:
            n_of[item.source] = n_of.get(item.source, 0) + 1
        for source, n in n_of.items():
            self._items[source].inc(n)
        strongest = next((source for source in _STRONGEST if source in n_of), "empty")
        self._lists[strongest].inc()
        self._cold.inc(model.count_cold([item.item_id for item in items]))

    def acknowledged(self, given: Sequence[StoredEvent], outcomes: Sequence[Outcome]) -> None:
        """Events were written down."""
        now = time.time()
        for event, outcome in zip(given, outcomes, strict=True):
            self._events[outcome].inc()
            if outcome == "stored" and event.occurred_at is not None:
                self._lag.observe(max(0.0, now - event.occurred_at))

    def batch(self, steps: Sequence[Step]) -> None:
        """What a batch was made of; see `serving.steps`."""
        for step in steps:
            if step.name in STORE_STEPS:
                self._store[step.name, step.has_failed].observe(step.seconds)
            elif step.name == "encode":
                self._encode.observe(step.seconds)
                self._texts.observe(step.size)
            elif step.name == "fold_in":
                self._fold_in.observe(step.seconds)
            elif step.name == "rank":
                self._rank.observe(step.seconds)

    def request(self, steps: Sequence[Step]) -> None:
        """Nothing to do: a batch is counted once."""

    def collect(self) -> Iterator[Metric]:
        """Everything, as `prometheus_client` writes it out; the time at which a series began is left out."""
        for family in self._registry.collect():
            family.samples = [
                s._replace(labels={**s.labels, **self._labels})
                for s in family.samples
                if not s.name.endswith("_created")
            ]
            yield family

    def samples(self) -> Iterator[Sample]:
        """Every number of Kindling's own, without those of the process."""
        for family in self.collect():
            if family.name.startswith(PREFIX):
                yield from family.samples


class _OfModel(Collector):
    """Asked when somebody reads, so that a swap has nobody to tell."""

    def __init__(self, current: Callable[[], Recommender | None]) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        model = self._current()
        yield GaugeMetricFamily(
            f"{PREFIX}ready", "1: a version is loaded and answers.", int(model is not None)
        )
        info = GaugeMetricFamily(f"{PREFIX}model_info", "1 for the version in service.", labels=("version",))
        built = GaugeMetricFamily(
            f"{PREFIX}model_built_timestamp_seconds",
            "When the version in service was built, seconds since 1970.",
        )
        if model is not None:
            info.add_metric((model.version,), 1)
            built.add_metric((), model.built_at)
        yield info
        yield built


class _OfBundles(Collector):
    def __init__(self, holder: Holding) -> None:
        self._holder = holder

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            f"{PREFIX}bundles_refused", "Publications that could not be loaded.", self._holder.refusals
        )
        yield GaugeMetricFamily(
            f"{PREFIX}bundle_is_refused", "1: what is published is not what is served, for it cannot be loaded.",
            int(self._holder.refuses),
        )  # fmt: skip
