"""Two weeks of a shop in which a lot goes wrong, from the scheduler to the last click.

    python benchmarks/fortnight.py [--days 14] [--quick] [--out FILE.md]

`kindling serve` runs all the time and is asked all the time. The loop of `kindling schedule` runs on a clock that is
sped up: while it waits for three in the morning, a day of visits happens over HTTP; then it runs `kindling nightly` as
a process of its own. Items and users arrive daily, half of the users change their tastes. One night the export of the
items is cut off, in another the rebuild is killed, in a third the texts have slipped by one row, in a fourth somebody
has set texts to mean nothing. In the end the store is read: every acknowledged event must be there once.

Beside the service, the first version answers the same visits with all that came since folded in, as a service does
that is never rebuilt: what the nights are worth is the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
from fortnight_page import Life, draw, render
from fortnight_world import OPENS, QUICK, N, Size, Traffic, World
from service import free_port
from service_faults import Service

from jobs.nights import list_nights
from jobs.scheduling import run_schedule
from pipelines.core.bundle import current_version
from pipelines.core.catalogue.behaviour import END
from pipelines.core.config import (
    Config,
    EncoderConfig,
    EvaluateConfig,
    FactorizeConfig,
    PublishConfig,
    ServeConfig,
    to_toml,
)
from pipelines.core.layout import Layout
from pipelines.core.runs import list_runs
from pipelines.flow import STAGES
from serving.answering import told
from serving.live import LiveRecommender
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.connecting import store_url
from serving.store.store import Store

FIRST_NIGHT = datetime.fromtimestamp(END, UTC).date() + timedelta(days=1)
CRON = f"0 {OPENS} * * *"
PROBE_SECONDS = 0.25
KILL_AT = ("embed", "factorize")
"""Stages in which the rebuild is killed; each kill is followed by the same call again."""


@dataclass(frozen=True)
class Bad:
    """The nights in which something goes wrong, counted from 1."""

    cut_off: int
    killed: int
    slipped: int
    misset: int

    @classmethod
    def of(cls, days: int) -> Bad:
        """A third, a half, three quarters and six sevenths through."""
        return cls(max(1, days // 3), max(2, days // 2), max(3, 3 * days // 4 - 1), max(4, 6 * days // 7))

    def nights(self) -> dict[int, str]:
        """Number of the night to what goes wrong."""
        return {
            self.cut_off: "export of the items cut off",
            self.killed: f"killed in {' and in '.join(KILL_AT)}",
            self.slipped: "texts of the items slipped by one row",
            self.misset: "settings by which texts mean nothing",
        }


class Clock:
    """The time of the simulation: it goes on while somebody waits, and every hour of it something happens."""

    def __init__(self, start: datetime, end: datetime, hour: Callable[[datetime], None]) -> None:
        """At `start`."""
        self._now, self._end, self._hour = start, end, hour

    def now(self) -> datetime:
        """Of the simulation."""
        return self._now

    def wait(self, seconds: float) -> bool:
        """Have that time pass; whether the fortnight is over."""
        before = self._now
        self._now += timedelta(seconds=seconds)
        if self._now.hour != before.hour:
            self._hour(self._now)
        return self._now >= self._end


class Probe(threading.Thread):
    """Asks for a list again and again on one connection, whatever else happens."""

    def __init__(self, url: str, traffic: Traffic) -> None:
        """Not started."""
        super().__init__(daemon=True)
        self.url, self.traffic, self.enough = url, traffic, threading.Event()
        self.versions: set[str] = set()

    def run(self) -> None:
        """Until it is enough."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.enough.wait(PROBE_SECONDS):
                try:
                    answer: httpx.Response | httpx.TransportError = client.post(
                        "/v1/recommend", json={"query": "a present for somebody who likes tea", "n": N}
                    )
                except httpx.TransportError as e:
                    answer = e
                self.traffic.count(answer, "probe")
                if isinstance(answer, httpx.Response) and answer.status_code == 200:
                    self.versions.add(answer.json()["model_version"])


class Fortnight:
    """All of it in one directory."""

    def __init__(self, root: Path, size: Size, days: int, seed: int) -> None:
        """Draw the world, write its first tables."""
        self.world, self.days, self.bad = World(size, days, seed), days, Bad.of(days)
        self.data, self.out, self.config = root / "data", root / "out", root / "kindling.toml"
        self.traffic = Traffic()
        self.kills: list[str] = []
        self.used = self.config
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = _settings(port, days)
        self.config.write_text(to_toml(settings), encoding="utf-8")
        self.misset = root / "misset.toml"
        broken = {"factorize": settings.factorize.model_copy(update={"text_weight": 0.0})}
        broken |= {"blend": settings.blend.model_copy(update={"gamma": 0.0})}
        self.misset.write_text(to_toml(settings.model_copy(update=broken)), encoding="utf-8")
        self.service = Service(self.out, self.config, self.url, root / "serve.log")
        self.world.export(self.data, 0)

    def run(self) -> str:
        """From the first build to the page."""
        began = time.monotonic()
        self._command("build", check=True)
        self.service.start()
        probe = Probe(self.url, self.traffic)
        probe.start()
        self.client = httpx.Client(base_url=self.url, timeout=60)
        store = Store(store_url("", self.out))
        first = Recommender(Layout(self.out).bundle(current_version(Layout(self.out))))
        self.frozen, self.store = LiveRecommender(lambda: first, store, 1e9, 500), store
        start = datetime.combine(FIRST_NIGHT, datetime.min.time(), UTC) - timedelta(hours=21)
        clock = Clock(start, start + timedelta(days=self.days, hours=1), self._hour)
        run_schedule(CRON, self._night, clock, say=lambda text: print(f"  {text}", flush=True))
        probe.enough.set()
        probe.join()
        self.frozen.close()
        self.service.stop()
        kept = [event.event_id for event in store.read_from(0, 10_000_000)]
        store.close()
        return render(
            Life(
                self.days, self.world.size, self.traffic, kept, list_nights(Layout(self.out)), self.bad.nights(),
                self.kills, probe.versions, str(self.out), time.monotonic() - began,
            )
        )  # fmt: skip

    def _day(self, now: datetime) -> int:
        """1 for the day before the first night."""
        return (now.date() - FIRST_NIGHT).days + (1 if now.hour < OPENS else 2)

    def _hour(self, now: datetime) -> None:
        day = self._day(now)
        if now.hour == OPENS:  # the shop opens for the day
            for item, fields in self.world.announced(day):
                self._ask("PUT", f"/v1/items/{item}", {"fields": fields})
            for user, words in self.world.newcomers(day):
                self._ask("PUT", f"/v1/users/{user}", {"description": words})
        self.frozen.refresh()
        for row in self.world.visitors(day, self.world.size.visits // 24):
            self._visit(int(row), day, now)

    def _visit(self, row: int, day: int, now: datetime) -> None:
        user = str(self.world.users_df["user_id"].iloc[row])
        wants = self.world.wants(row, day)
        answer = self._ask("POST", "/v1/recommend", {"user_id": user, "n": N})
        if answer is None:
            return
        shown = [item["item_id"] for item in answer.json()["items"]]
        if day <= self.days:  # and by the first version
            asked = told(Request(user, n=N), self.store.people([user], 500)[user])
            frozen = [item.item_id for item in self.frozen().recommend(asked)]
            pair = self.world.worth(shown, wants), self.world.worth(frozen, wants)
            self.traffic.reached.setdefault(day, []).append(pair)
        clicked = self.world.clicks(shown, wants)
        request_id = answer.headers.get("x-request-id")
        events = [
            self.world.event(user, item, now, request_id if item in shown else None) for item in clicked
        ]
        if events and (done := self._ask("POST", "/v1/events", {"events": events})):
            self.traffic.acknowledged += [event["event_id"] for event in done.json()["events"]]

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response | None:
        """The answer where it is 200; everything else is counted as a failure."""
        try:
            answer: httpx.Response | httpx.TransportError = self.client.request(method, path, json=body)
        except httpx.TransportError as e:
            answer = e
        self.traffic.count(answer, f"{method} {path}")
        return answer if isinstance(answer, httpx.Response) and answer.status_code == 200 else None

    def _night(self, night: date) -> int:
        number = (night - FIRST_NIGHT).days + 1
        slips = number == self.bad.slipped
        self.world.export(self.data, number, spoil=_slip if slips else None)
        if number == self.bad.cut_off:
            items = self.data / "items.parquet"
            items.write_bytes(items.read_bytes()[: items.stat().st_size // 2])
        self.used = self.misset if number == self.bad.misset else self.config
        arguments = ("nightly", "--date", night.isoformat())
        if number == self.bad.killed:
            for stage in KILL_AT:
                self._kill_in(stage, *arguments)
        return self._command(*arguments)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("kindling")), *arguments]
        command += ["--data", str(self.data), "--out", str(self.out), "--config", str(self.used)]
        with (self.out.parent / "commands.log").open("ab") as sink:
            return subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)

    def _command(self, *arguments: str, check: bool = False) -> int:
        status = self._start(*arguments).wait()
        if check and status:
            raise SystemExit((self.out.parent / "commands.log").read_text(errors="replace")[-3000:])
        return status

    def _kill_in(self, stage: str, *arguments: str) -> None:
        """Kill every process of a rebuild while it is in a stage."""
        running, n_before = self._start(*arguments), [s.name for s in STAGES].index(stage)
        while running.poll() is None:
            runs = [run for run in list_runs(Layout(self.out)) if run.pid == running.pid]
            if runs and len(runs[0].stages) >= n_before:
                break
            time.sleep(0.02)
        for process in [*psutil.Process(running.pid).children(recursive=True), psutil.Process(running.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        running.wait()
        self.kills.append(stage)


def _slip(items_df: pd.DataFrame) -> pd.DataFrame:
    """The words of each item beside the id of another."""
    words = ["title", "description", "brand", "categories"]
    return items_df.assign(**{name: np.roll(items_df[name].to_numpy(), 1) for name in words})


def _settings(port: int, days: int) -> Config:
    return Config(
        encoder=EncoderConfig(max_tokens=48),
        factorize=FactorizeConfig(n_factors=32),
        evaluate=EvaluateConfig(baselines=("popularity",), bootstrap=200),
        publish=PublishConfig(keep=days + 1),
        serve=ServeConfig(port=port, replicas=1),
    )


def main() -> None:
    """Live through it, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="a small shop")
    parser.add_argument("--out", type=Path, help="write a Markdown page, and its plot beside it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        life = Fortnight(Path(temporary), QUICK if options.quick else Size(), options.days, options.seed)
        page = life.run()
        print(page)
        if options.out:
            options.out.write_text(page, encoding="utf-8")
            draw(life.traffic.reached, life.bad.nights(), options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
