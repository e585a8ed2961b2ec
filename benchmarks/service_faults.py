"""What callers notice, and what is lost, when processes of a running service are killed under load.

    python benchmarks/service_faults.py [--kills 6] [--items 20000] [--quick] [--out FILE.md]

`kindling serve` with two replicas over a synthetic bundle. Writers send events, each batch again until it is
acknowledged, as a careful caller does; readers ask for lists and count what they get. Replicas are killed with SIGKILL,
one after the other, then every process of the service at once, whereupon it is started again. In the end the store is
read: each acknowledged event must be there once.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from quality import circumstances
from service import free_port, make_bundle

from pipelines.core.config import Config, ServeConfig, to_toml
from serving.store.connecting import store_url
from serving.store.store import Store

WRITERS, READERS, EACH, REPLICAS = 4, 4, 5, 2
GIVE_UP_SECONDS = 300.0
_REPLICA = re.compile(r'kindling_model_info\{replica="(\w+)"')


@dataclass
class Seen:
    """What one caller saw; a list only grows, so others may read it meanwhile.

    Attributes:
        answers: status or "cut off" to how often.
        times: moment and seconds of each answer of status 200.
        events: ids that were acknowledged.

    """

    answers: Counter[str] = field(default_factory=Counter)
    times: list[tuple[float, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class Caller(threading.Thread):
    """Asks or writes again and again until told that it is enough."""

    def __init__(self, url: str, number: int, *, writes: bool) -> None:
        """A thread that has not started."""
        super().__init__(daemon=True)
        self.url, self.number, self.writes = url, number, writes
        self.enough, self.seen = threading.Event(), Seen()

    def run(self) -> None:
        """Until it is enough and what was being sent is acknowledged."""
        batch, is_pending = 0, False
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while is_pending or not self.enough.is_set():
                asked = time.perf_counter()
                status = self._write(client, batch) if self.writes else self._ask(client)
                self.seen.answers[status] += 1
                if status == "200":
                    self.seen.times.append((asked, time.perf_counter() - asked))
                    batch += 1
                else:
                    time.sleep(0.2)
                is_pending = self.writes and status != "200"

    def _ask(self, client: httpx.Client) -> str:
        try:
            body = {"user_id": f"user-{self.number:05d}", "n": 10}
            return str(client.post("/v1/recommend", json=body).status_code)
        except httpx.TransportError:
            return "cut off"

    def _write(self, client: httpx.Client, batch: int) -> str:
        events = [
            {"event_id": f"{self.number}-{batch}-{k}", "user_id": f"user-{self.number:05d}",
             "item_id": f"item-{batch % 100:07d}"}
            for k in range(EACH)
        ]  # fmt: skip
        try:
            answer = client.post("/v1/events", json={"events": events})
        except httpx.TransportError:
            return "cut off"
        if answer.status_code == 200:
            self.seen.events += [e["event_id"] for e in answer.json()["events"]]
        return str(answer.status_code)


@dataclass(frozen=True)
class Fault:
    """One kill.

    Attributes:
        what: was killed.
        seconds: until every caller had an answer again, asked for after it.
        pause: the longest that a caller waited for one, from the kill on.

    """

    what: str
    seconds: float
    pause: float


class Service:
    """`kindling serve` as a process."""

    def __init__(self, out: Path, config: Path, url: str, log: Path) -> None:
        """Not started yet."""
        self.url, self._log = url, log
        self._command = [
            str(Path(sys.executable).with_name("kindling")),
            "serve",
            "--out",
            str(out),
            "--config",
            str(config),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; seconds until it is ready."""
        began = time.monotonic()
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(self._command, stdout=sink, stderr=sink, start_new_session=True)
        while time.monotonic() - began < GIVE_UP_SECONDS:
            if self._process.poll() is not None:
                raise SystemExit(f"the service ended: {self._log.read_text(errors='replace')[-2000:]}")
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise SystemExit("the service was not ready in time")

    def processes(self) -> list[psutil.Process]:
        """All of them."""
        assert self._process is not None  # noqa: S101 - only of a service that runs
        own = psutil.Process(self._process.pid)
        return [*own.children(recursive=True), own]

    def replicas(self) -> list[psutil.Process]:
        """Those that answer."""
        found = []
        for process in self.processes():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica"):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill_all(self) -> None:
        """As when the machine's memory runs out: no process has a last word."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        assert self._process is not None  # noqa: S101 - as above
        self._process.wait()

    def stop(self) -> None:
        """As by Ctrl-C."""
        assert self._process is not None  # noqa: S101 - as above
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=120)


def main() -> None:
    """Kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6, help="of replicas")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="2,000 items, two kills")
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.items = min(options.kills, 2), min(options.items, 2000)
    with tempfile.TemporaryDirectory() as temporary:
        page = measure(Path(temporary), options.kills, options.items)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def measure(folder: Path, n_kills: int, n_items: int) -> str:
    """The page."""
    out, file = folder / "out", folder / "serve.toml"
    config = Config(serve=ServeConfig(port=free_port(), replicas=REPLICAS))
    make_bundle(out, n_items, config)
    file.write_text(to_toml(config), encoding="utf-8")
    url = f"http://127.0.0.1:{config.serve.port}"
    service = Service(out, file, url, folder / "serve.log")
    service.start()
    callers = [Caller(url, n, writes=n < WRITERS) for n in range(WRITERS + READERS)]
    for caller in callers:
        caller.start()
    faults, killed = [], set[int]()
    try:
        wait_for_answers(callers, time.perf_counter(), 10)
        for _ in range(n_kills):
            wait_for_replicas(url)
            victim = next(p.pid for p in service.replicas() if p.pid not in killed)
            killed.add(victim)
            moment = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            faults.append(recovery("one of two replicas", callers, moment))
        moment = time.perf_counter()
        service.kill_all()
        service.start()
        faults.append(recovery("every process, then started again", callers, moment))
        for caller in callers:
            caller.enough.set()
        for caller in callers:
            caller.join(GIVE_UP_SECONDS)
    finally:
        service.stop()
    return render(n_kills, n_items, callers, faults, stored(out))


def wait_for_replicas(url: str) -> None:
    """Until all of them answer: one whose process is there may still be loading."""
    deadline, shown = time.perf_counter() + GIVE_UP_SECONDS, set[str]()
    while len(shown) < REPLICAS:
        if time.perf_counter() > deadline:
            raise SystemExit("a replica that was killed is not replaced")
        # connections of their own: the proxy may choose another replica for each
        pages = [httpx.get(f"{url}/metrics", timeout=30).text for _ in range(20)]
        shown = {name for page in pages for name in _REPLICA.findall(page)}


def wait_for_answers(callers: Sequence[Caller], moment: float, n: int) -> None:
    """Until every caller has n answers that it asked for after a moment."""
    deadline = time.perf_counter() + GIVE_UP_SECONDS
    while any(sum(at > moment for at, _ in caller.seen.times[-n:]) < n for caller in callers):
        if time.perf_counter() > deadline:
            raise SystemExit("some caller is not served again")
        time.sleep(0.05)


def recovery(what: str, callers: Sequence[Caller], moment: float) -> Fault:
    """What callers noticed of a kill at a moment."""
    wait_for_answers(callers, moment, 1)
    firsts = [next(at + s for at, s in caller.seen.times if at > moment) - moment for caller in callers]
    wait_for_answers(callers, time.perf_counter(), 10)
    pauses = []
    for caller in callers:
        ends = np.array([at + seconds for at, seconds in caller.seen.times])
        gaps = np.diff(ends)[ends[1:] > moment]
        pauses.append(float(gaps.max()))
    return Fault(what, max(firsts), max(pauses))


def stored(out: Path) -> Counter[str]:
    """Event id to how often the store has it."""
    store = Store(store_url("", out))
    found, seq = Counter[str](), 0
    while part := list(store.read_from(seq, 10_000)):
        found.update(event.event_id for event in part)
        seq = part[-1].seq
    store.close()
    return found


def render(
    n_kills: int, n_items: int, callers: Sequence[Caller], faults: Sequence[Fault], kept: Counter[str]
) -> str:
    """The page as Markdown."""
    acknowledged = [event for caller in callers for event in caller.seen.events]
    lost = sum(kept[event] == 0 for event in acknowledged)
    doubled = sum(n > 1 for n in kept.values())
    lines = [
        "# Processes of the service killed under load", "", circumstances(), "",
        f"Command: `python benchmarks/service_faults.py --kills {n_kills} --items {n_items}`. {REPLICAS} replicas, "
        f"{WRITERS} writers of batches of {EACH} events, {READERS} readers, all without a pause, on the same CPUs.", "",
        "| killed with SIGKILL | s until all are answered again | longest wait for an answer, s |", "|---|---|---|",
        *[f"| {f.what} | {f.seconds:.2f} | {f.pause:.2f} |" for f in faults], "",
    ]  # fmt: skip
    kinds = sorted({kind for caller in callers for kind in caller.seen.answers})
    lines += [f"| requests | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
    for name, writes in (("of writers", True), ("of readers", False)):
        answers = sum((c.seen.answers for c in callers if c.writes == writes), Counter[str]())
        lines.append(f"| {name} | {' | '.join(f'{answers[kind]:,}' for kind in kinds)} |")
    lines += [
        "", "Whoever is cut off or refused asks again after 0.2 s. Between the end of every process and the "
        "next start nobody answers; those attempts are among the cut off.",
        "", f"Events acknowledged: {len(acknowledged):,}. Lost: {lost}. Stored twice: {doubled}. Stored and never "
        f"acknowledged: {len(set(kept) - set(acknowledged))}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
