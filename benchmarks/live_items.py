"""How soon a new item can be recommended by every replica of a running service.

    kindling serve --out OUT --config FILE        # with [serve] replicas = 2, say
    python benchmarks/live_items.py --url http://127.0.0.1:8000 [--items 20] [--key kd_...] [--out FILE]

Each item is put, then asked for on one connection after the other, until so many answers running have it that no
replica is left that has not. From the acknowledgement to the first of these answers is its time; beside it, how long
putting it took. The items are withdrawn afterwards.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import httpx
import numpy as np
from quality import circumstances

RUNNING = 20
"""Answers one after the other, all with the item: of two replicas that take turns at random, one is missed once in a
million."""
GIVE_UP_SECONDS = 60.0


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--key", help="of scope write, where keys are on")
    parser.add_argument("--name", default="of the demo", help="whose catalogue it is, for the page")
    parser.add_argument("--replicas", type=int, default=2, help="for the page")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    put, shown = zip(*(measure(options.url, headers, k) for k in range(options.items)), strict=True)
    lines = [
        "# How soon a new item is recommended", "", circumstances(), "",
        f"Command: `python benchmarks/live_items.py --items {options.items}` against `kindling serve` with "
        f"{options.replicas} replicas and the items {options.name}. {options.items} items, one after the other.", "",
        "| seconds | median | longest |", "|---|---|---|",
        f"| until it is acknowledged | {np.median(put):.3f} | {max(put):.3f} |",
        f"| from then until every replica recommends it | {np.median(shown):.3f} | {max(shown):.3f} |",
    ]  # fmt: skip
    page = "\n".join(lines) + "\n"
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def measure(url: str, headers: dict[str, str], number: int) -> tuple[float, float]:
    """Seconds to put one item, and from then until every replica has it."""
    item_id = f"live-items-{time.time_ns()}"
    words = f"number {number} kaleidoscope {item_id}"
    started = time.perf_counter()
    answer = httpx.put(
        f"{url}/v1/items/{item_id}", headers=headers, json={"fields": {"title": words}}, timeout=10
    )
    answer.raise_for_status()
    acknowledged = first = time.perf_counter()
    running = 0
    while running < RUNNING:
        if time.perf_counter() - acknowledged > GIVE_UP_SECONDS:
            raise SystemExit(f"{item_id} is not recommended after {GIVE_UP_SECONDS:.0f} s")
        asked = time.perf_counter()
        # a connection of its own each time: the proxy may choose another replica
        found = httpx.post(f"{url}/v1/recommend", headers=headers, json={"query": words, "n": 5}, timeout=10)
        found.raise_for_status()
        if item_id in [item["item_id"] for item in found.json()["items"]]:
            first = asked if running == 0 else first
            running += 1
        else:
            running = 0
    httpx.delete(f"{url}/v1/items/{item_id}", headers=headers, timeout=10).raise_for_status()
    return acknowledged - started, max(0.0, first - acknowledged)


if __name__ == "__main__":
    main()
