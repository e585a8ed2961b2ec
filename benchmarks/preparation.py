"""What preparation costs: raw tables to sorted pairs, time and memory of each step as interactions grow.

    python benchmarks/preparation.py [--millions 1 5 25] [--quick] [--out FILE]

Each size is a generated catalogue (string ids, Zipf items, events, timestamps, a thousandth of bad rows; a user per 50
interactions, an item per 250) and a fresh process that runs the build's own stages ingest and split on a local Ray,
then reads the pairs as the stages after them do. Another process looks at the whole process tree five times a
second. Shared memory, Ray's object store above all, counts once: a process has its proportional share (PSS).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from quality import circumstances

from pipelines.core.config import Config
from pipelines.core.layout import Layout
from pipelines.core.pairs import read_pairs, row_offsets
from pipelines.core.storage import read_json
from pipelines.progress import Bar, Progress

GB = 1e9
LIMIT_GB = 20.0
BAD_SHARE = 0.001
_FLOOR = "the interactions read and written once, no more"
_APART = ("a task of", _FLOOR)
"""Steps that run in a process without Ray: no driver, one worker."""
_ROWS_PER_GROUP = 1 << 20


# the catalogue


def generate(
    directory: Path, n_items: int, n_users: int, n_interactions: int, *, words: int = 8, seed: int = 0
) -> None:
    """Write items with titles of some words, and interactions, as Parquet, a row group at a time."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    items = {"item_id": _names("item-", n_items), "title": _titles(n_items, words, rng)}
    pq.write_table(pa.table(items), directory / "items.parquet")
    item_ids = pa.concat_arrays([items["item_id"], pa.array(["nowhere"])])
    user_ids = _names("user-", n_users)
    # which row of the table is popular has nothing to do with its number
    popular, active = rng.permutation(n_items), rng.permutation(n_users)
    item_steps, user_steps = _zipf(n_items, 1.0), _zipf(n_users, 0.5)
    events = pa.array(["view", "click", "cart", "purchase"])
    with pq.ParquetWriter(directory / "interactions.parquet", _INTERACTIONS) as writer:
        for start in range(0, n_interactions, _ROWS_PER_GROUP):
            n = min(_ROWS_PER_GROUP, n_interactions - start)
            item = popular[np.searchsorted(item_steps, rng.random(n))]
            item[rng.random(n) < BAD_SHARE] = n_items
            user = active[np.searchsorted(user_steps, rng.random(n))]
            columns = {
                "user_id": user_ids.take(pa.array(user)),
                "item_id": item_ids.take(pa.array(item)),
                "timestamp": pa.array(rng.integers(1_600_000_000, 1_700_000_000, n)),
                "event": events.take(pa.array(rng.choice(4, n, p=(0.6, 0.25, 0.1, 0.05)))),
            }
            writer.write_table(pa.table(columns, schema=_INTERACTIONS), row_group_size=n)


_INTERACTIONS = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("event", pa.string())]
)


def _names(prefix: str, n: int) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(np.arange(n)).cast(pa.string()), width=9, padding="0")
    return pc.binary_join_element_wise(prefix, digits, "")


def _titles(n: int, n_words: int, rng: np.random.Generator) -> pa.Array:
    """Made-up words, some of them frequent."""
    letters = np.frombuffer(b"aeioulnrstmkpdbg", dtype="S1")
    words = pa.array(np.unique(letters[rng.integers(0, 16, (20_000, 7))].view("S7").ravel()).astype(str))
    steps = _zipf(len(words), 0.8)
    columns = [words.take(pa.array(np.searchsorted(steps, rng.random(n)))) for _ in range(n_words)]
    return pc.binary_join_element_wise(*columns, " ")


def _zipf(n: int, exponent: float) -> npt.NDArray[np.float64]:
    """Cumulative shares of n ranks."""
    steps = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -exponent)
    steps /= steps[-1]
    steps[-1] = 1.0
    return steps


# memory of a process tree


@dataclass(frozen=True)
class Memory:
    """Of a process tree, in GB.

    Attributes:
        driver: the first process, its resident memory.
        largest: the largest process that runs tasks, its resident memory.
        workers: all processes that run tasks.
        total: everything, Ray's own processes and its object store included.

    """

    driver: float = 0.0
    largest: float = 0.0
    workers: float = 0.0
    total: float = 0.0


@dataclass
class Watch:
    """Looks at a process tree until told to stop."""

    root: psutil.Process
    samples: list[tuple[float, Memory]] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Look five times a second."""
        while not stop.wait(0.2):
            try:
                tree = [self.root, *self.root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.samples.append((time.time(), self._look(tree)))

    def _look(self, tree: list[psutil.Process]) -> Memory:
        driver = largest = workers = total = 0
        for process in tree:
            try:
                memory, title = process.memory_full_info(), process.cmdline()[:1]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total += memory.pss
            if process.pid == self.root.pid:
                driver = memory.rss
            elif title and title[0].startswith("ray::"):
                workers += memory.pss
                largest = max(largest, memory.rss)
        return Memory(driver / GB, largest / GB, workers / GB, total / GB)

    def peak(self, start: float, stop: float) -> Memory:
        """The largest of each figure between two moments; a step too short to be seen has what was seen next."""
        seen = [memory for at, memory in self.samples if start <= at <= stop]
        seen = seen or [memory for at, memory in self.samples if at > stop][:1] or [Memory()]
        names = [f.name for f in fields(Memory)]
        return Memory(**{name: max(getattr(memory, name) for memory in seen) for name in names})


@dataclass(frozen=True)
class Step:
    """One step of one run."""

    name: str
    seconds: float
    memory: Memory


def watched(arguments: list[str]) -> list[Step]:
    """Run a Python program that prints one JSON line [name, start, stop] per step; each step with its peaks."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    watch, stop = Watch(psutil.Process(process.pid)), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        out, _ = process.communicate()
    finally:
        stop.set()
        thread.join()
    if process.returncode:
        raise SystemExit(f"{arguments} ended with status {process.returncode}")
    steps = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    return [Step(name, end - start, watch.peak(start, end)) for name, start, end in steps]


# the program that is watched


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print when it began and ended."""
    started = time.time()
    yield
    print(json.dumps([name, started, time.time()]), flush=True)


class Clock(Progress):
    """Prints when the stages of a build, and their bars, begin and end."""

    def __init__(self) -> None:
        """Nothing else is shown."""
        super().__init__(quiet=True)
        self.stage, self.began = "", 0.0

    def begin(self, stage: str) -> None:
        """Remember which stage it is."""
        self.stage, self.began = stage, time.time()

    def end(self, stage: str, seconds: float) -> None:  # noqa: ARG002 - without the marker's hash of what was written
        """Print the stage."""
        print(json.dumps([stage, self.began, time.time()]), flush=True)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        """Print the bar as a step of its stage."""
        with step(f"{self.stage}: {what}"), super().bar(what, total) as bar:
            yield bar


def prepare(data: str, out: Path) -> None:
    """Run ingest and split, then read their pairs as profile and factorize do."""
    from pipelines import flow  # noqa: PLC0415 - the process that watches needs no Ray
    from pipelines.cluster import connect, shutdown  # noqa: PLC0415

    config = Config()
    with step("start of Ray"):
        connect(config.ray)
    flow.build(config, data, out, until_stage="split", progress=Clock())
    shutdown()  # what follows happens in tasks; here it would only blur whose memory it is
    layout = Layout(out)
    n = {side: pq.read_metadata(layout.ids(f"{side}s")).num_rows for side in ("user", "item")}
    for side, other in (("user", "item"), ("item", "user")):
        path = layout.pairs("full", side)
        with step(f"a task of profile: where to cut {side}s"):
            offsets = row_offsets(path, side, n[side])
        with step(f"a task of profile and factorize: the pairs of half the {side}s"):
            read_pairs(path, side, 0, int(np.searchsorted(offsets, offsets[-1] // 2)), n[other])
    with step(_FLOOR):
        copy(Path(data) / "interactions.parquet", out / "copy.parquet")


def copy(source: Path, target: Path) -> None:
    """Read and write a Parquet file with all threads and do nothing else: no preparation can be faster."""
    file = pq.ParquetFile(source)
    with pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group))


# the page


def main() -> None:
    """Measure every size and print, or write, the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 5, 25], help="sizes")
    parser.add_argument("--quick", action="store_true", help="1 and 2 million only")
    parser.add_argument("--scratch", type=Path, help="folder for the catalogues; default: the system's")
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    parser.add_argument("--prepare", nargs=2, metavar=("DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare[0], Path(options.prepare[1]))
        return
    sizes = [1.0, 2.0] if options.quick else options.millions
    lines: list[str] = []
    drivers: dict[float, float] = {}
    for millions in sizes:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            steps, facts = measure(millions, Path(folder))
        drivers[millions] = max(s.memory.driver for s in steps if not s.name.startswith(_APART))
        lines += table(millions, steps, facts)
        print("\n".join(table(millions, steps, facts)), flush=True)
    lines += growth(drivers)
    print("\n".join(growth(drivers)))
    if options.out:
        command = "python benchmarks/preparation.py --millions " + " ".join(f"{m:g}" for m in sizes)
        head = ["# Preparation: ingest and split", "", circumstances(), "", f"Command: `{command}`."]
        options.out.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def measure(millions: float, folder: Path) -> tuple[list[Step], dict[str, int]]:
    """One size: steps, and what there was to do."""
    n = round(millions * 1e6)
    data, out = folder / "data", folder / "out"
    generate(data, n // 250, n // 50, n)
    steps = watched([__file__, "--prepare", str(data), str(out)])
    layout = Layout(out)
    ingested, split = read_json(layout.ingest_report), read_json(layout.split_report)
    facts = {
        "interactions": n,
        "users": ingested["users"]["kept"],
        "items": ingested["items"]["kept"],
        "rejected": ingested["interactions"]["rejected"],
        "pairs": split["pairs"],
        "bytes": sum(p.stat().st_size for p in data.rglob("*.parquet")),
    }
    if facts["rejected"] + ingested["interactions"]["kept"] != n:
        raise SystemExit(f"{n} rows went in, {facts['rejected']} rejected and {ingested} came out")
    shutil.rmtree(out)
    return steps, facts


def table(millions: float, steps: list[Step], facts: dict[str, int]) -> list[str]:
    """Markdown of one size."""
    peak = max(s.memory.total for s in steps)
    stages = {s.name: s.seconds for s in steps}
    both, floor = stages["ingest"] + stages["split"], stages[_FLOOR]
    return [
        "",
        f"## {millions:g} million interactions",
        "",
        f"{facts['users']:,} users, {facts['items']:,} items, {facts['rejected']:,} rows rejected, {facts['pairs']:,} "
        f"distinct pairs; {facts['bytes'] / 1e6:,.0f} MB of Parquet. Ingest and split {both:.1f} s, "
        f"{facts['interactions'] / both / 1e6:.2f} million interactions/s; peak {peak:.1f} GB of {LIMIT_GB:.0f}. "
        f"To read the interactions and write them once, no more, takes pyarrow {floor:.1f} s: ours is "
        f"{both / floor:.1f} times that.",
        "",
        "| step | s | driver GB | largest worker GB | workers GB | all GB |",
        "|---|---|---|---|---|---|",
        *(f"| {s.name} | {s.seconds:.1f} | {_cells(s)} |" for s in steps),
    ]


def _cells(s: Step) -> str:
    m = s.memory
    if s.name.startswith(_APART):
        return f"– | {m.driver:.2f} | – | {m.total:.2f}"
    return f"{m.driver:.2f} | {m.largest:.2f} | {m.workers:.2f} | {m.total:.2f}"


def growth(drivers: dict[float, float]) -> list[str]:
    """The driver's memory beside the number of interactions."""
    cells = ", ".join(f"{gb:.2f} GB at {m:g} million" for m, gb in drivers.items())
    return ["", f"The driver's largest resident memory: {cells}."]


if __name__ == "__main__":
    main()
