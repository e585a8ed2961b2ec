"""Requests over HTTP beside Serve's own no-op, and what each part of a request costs.

    python benchmarks/service.py [--items 100000] [--quick] [--out FILE.md]

A synthetic bundle of the shapes of a real one (128 factors, 384 + 256 text columns) is served by the real application;
a deployment that answers at once, with the same framework behind the same proxy in the same Ray, is the floor. Both are
asked in turns, several rounds, by keep-alive connections from this process, so client, proxy and replica share the
machine. Figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from fastapi import FastAPI
from quality import circumstances

from pipelines.core import lexical
from pipelines.core.blend import normalize
from pipelines.core.bundle import BundlePaths, finish_directory, point_current, write_manifest
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import Config, ServeConfig, to_toml
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.layout import Layout
from pipelines.core.storage import write_json, write_table, write_tensors, write_text
from serving.proxy import choose_proxy

N_USERS, N_FACTORS, N_EMBEDDING, N_TOPIC = 20_000, 128, 384, 48
CHUNK = 50_000
FloatArray = npt.NDArray[np.float32]
TEXTS = (
    "I spend most weekends hiking and like light, simple gear that lasts for years",
    "We have just moved into a small flat and are looking for furniture that folds away",
    "I bake bread, grow tomatoes on the balcony and collect old cookbooks",
    "Parent of two, always short of time, interested in science toys and board games",
)
QUERIES = ("waterproof tent for two", "espresso machine", "guitar strings", "running shoes size 42")

NUMBER = "########"
"""In a text: stands for another number in each request."""
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Load:
    """What one run of requests measured, in milliseconds."""

    per_second: float
    p50: float
    p99: float


def main() -> None:
    """Make the bundle, serve it, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run of requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--proxy", choices=["auto", "haproxy", "python"], default="auto")
    parser.add_argument("--quick", action="store_true", help="20,000 items, one round of one second")
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    if options.quick:
        options.items, options.rounds, options.seconds = min(options.items, 20_000), 1, 1.0
    with tempfile.TemporaryDirectory() as temporary:
        config = Config(serve=ServeConfig(port=free_port(), proxy=options.proxy))
        out = Path(temporary)
        bodies = make_bundle(out, options.items, config)
        parts = measure_parts(out, bodies)
        proxy, loads = measure_http(out, config, bodies, options)
    page = render(options, proxy, loads, parts)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def make_bundle(out: Path, n_items: int, config: Config) -> dict[str, list[dict[str, Any]]]:
    """Publish a bundle of random numbers in real shapes; returns requests of each kind."""
    rng = np.random.default_rng(0)
    texts = generate(GeneratorConfig(n_items=2000, n_users=10, n_interactions=100)).items_df
    words = lexical.fit((texts["title"] + " " + texts["description"]).tolist(), config.lexical, 0)
    width = N_EMBEDDING + words.width
    item_ids = [f"item-{row:07d}" for row in range(n_items)]
    # lengths of factors fall with popularity, as those of fitted ones do
    popularity = np.floor(300.0 / (1.0 + np.arange(n_items)) ** 0.5).astype(np.int64)
    factors, profiles, user_map = make_vectors(popularity, words.width, config, rng)
    lengths = rng.integers(5, 50, N_USERS)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    indices = np.minimum(n_items * rng.random(indptr[-1]) ** 3, n_items - 1).astype(np.int32)
    layout = Layout(out)
    paths = BundlePaths(layout.bundles / ".v1.tmp")
    paths.root.mkdir(parents=True)
    items = {
        "item_id": item_ids,
        "text": [""] * n_items,
        "price": rng.integers(1, 500, n_items).astype(np.float64),
        "is_hidden": np.zeros(n_items, dtype=bool),
        "n_interactions": popularity,
        "n_wanted": popularity,
    }
    write_table(paths.items, pa.table(items))
    write_table(paths.users, pa.table({"user_id": [f"user-{row:05d}" for row in range(N_USERS)]}))
    write_tensors(paths.item_arrays, {"factors": factors, "profiles": profiles})
    history = {"indptr": indptr, "indices": indices, "weights": np.ones(len(indices), dtype=np.float32)}
    own = np.zeros((N_USERS, width), dtype=np.float32)
    write_tensors(
        paths.user_arrays, {"factors": np.zeros((N_USERS, N_FACTORS), np.float32), "own_texts": own} | history
    )
    maps = {
        "item_mean": np.zeros(N_EMBEDDING + words.width, dtype=np.float32),
        "user_mean": np.zeros(N_EMBEDDING + words.width, dtype=np.float32),
        "user_map": user_map,
        "item_map": 0.1 * rng.standard_normal((width + 1, N_FACTORS), dtype=np.float32),
        "item_gramian": (factors.T @ factors).astype(np.float32),
        "user_gramian": np.eye(N_FACTORS, dtype=np.float32),
    }
    write_tensors(paths.text_maps, maps)
    lexical.save(words, paths.lexical)
    write_text(paths.config, to_toml(config))
    write_json(paths.metrics, {"version": "v1"})
    encoder = {"model": config.encoder.model, "fingerprint": encoder_fingerprint(config.encoder)}
    write_manifest(paths, "v1", {"encoder": encoder})
    finish_directory(paths.root, layout.bundle("v1"))
    point_current(layout, "v1")
    users = rng.integers(0, N_USERS, 500)
    return {
        "known user": [{"user_id": f"user-{row:05d}"} for row in users],
        "new text": [{"user_text": f"{TEXTS[n % 4]}, {texts['title'][n]} {NUMBER}"} for n in range(500)],
        "query": [{"query": f"{QUERIES[n % 4]} {NUMBER}"} for n in range(500)],
    }


def make_vectors(
    popularity: npt.NDArray[np.int64], n_words: int, config: Config, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Factors (I, F) and text profiles (I, E) that agree on what items are about, and the map from text to factors.

    Topics in 48 dimensions show in both, with noise of the factors' own over all of theirs. Numbers without structure
    have no neighbours to speak of; of a build of real items 97 % of the vectors' squared lengths lie along 256
    directions, of these 98 %.
    """
    width = N_EMBEDDING + n_words
    into_text = rng.standard_normal((N_TOPIC, width), dtype=np.float32)
    into_factors = rng.standard_normal((N_TOPIC, N_FACTORS), dtype=np.float32)
    topics = rng.standard_normal((3000, N_TOPIC), dtype=np.float32)
    factors = np.empty((len(popularity), N_FACTORS), dtype=np.float32)
    profiles = np.empty((len(popularity), width), dtype=np.float32)
    # directions of texts weigh less and less, as those of embeddings do
    fading = ((1.0 + np.arange(width)) ** -0.5).astype(np.float32)
    for a in range(0, len(popularity), CHUNK):
        rows = slice(a, a + CHUNK)
        n_rows = len(popularity[rows])
        about = topics[rng.integers(0, 3000, n_rows)] + rng.standard_normal(
            (n_rows, N_TOPIC), dtype=np.float32
        )
        text = about @ into_text + 60.0 * fading * rng.standard_normal((n_rows, width), dtype=np.float32)
        profiles[rows, :N_EMBEDDING] = normalize(text[:, :N_EMBEDDING])
        profiles[rows, N_EMBEDDING:] = config.lexical.weight * normalize(text[:, N_EMBEDDING:])
        likes = about @ into_factors + 10.0 * rng.standard_normal((n_rows, N_FACTORS), dtype=np.float32)
        lengths = 0.2 + 0.5 * np.log1p(popularity[rows])
        factors[rows] = lengths[:, None] * normalize(likes)
    known = profiles[:20_000]
    ridge = known.T @ known + np.eye(width, dtype=np.float32)
    text_map = np.linalg.solve(ridge, known.T @ factors[:20_000])
    return factors, profiles, np.vstack([text_map, factors[:20_000].mean(axis=0)]).astype(np.float32)


def measure_parts(out: Path, bodies: dict[str, list[dict[str, Any]]]) -> list[tuple[str, float, float]]:
    """Milliseconds of each step of a request in this process: one request, and one of a batch of 16."""
    import torch  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    from pipelines.core.text import clean_text  # noqa: PLC0415
    from serving import api, lists  # noqa: PLC0415
    from serving.bodies import RecommendBody  # noqa: PLC0415
    from serving.recommender import load_current  # noqa: PLC0415
    from serving.requests import Request as Asked  # noqa: PLC0415
    from serving.store.store import open_store, store_url  # noqa: PLC0415

    threads = os.cpu_count() or 1
    torch.set_num_threads(1)
    with threadpool_limits(1, "blas"):
        model = load_current(out, threads=threads)
        asked = [Asked(**body) for body in bodies["known user"]]
        texts = [clean_text(body["user_text"]) for body in bodies["new text"]]
        empty = model.users.words([Asked()])[0]
        prepared = [model._prepare(0, request, empty) for request in asked]
        wanted = [p.wanted for p in prepared if p.wanted is not None]
        answer = model.recommend(asked[0])
        raw = [json.dumps(body) for body in bodies["known user"]]
        steps: list[tuple[str, Callable[[int, int], object]]] = [
            (
                "read and check the body",
                lambda a, b: [RecommendBody.model_validate(json.loads(r)) for r in raw[a:b]],
            ),
            ("encode a text of 20 words", lambda a, b: model.encoder.encode(texts[a:b])),
            ("its words", lambda a, b: model.users._lexical.transform(texts[a:b])),
            (
                "understand and fold in",
                lambda a, b: [model._prepare(0, request, empty) for request in asked[a:b]],
            ),
            ("rank", lambda a, b: model.catalogue.best(wanted[a:b])),
            (
                "write the answer",
                lambda a, b: [lists._answer("x" * 32, "v1", answer, None) for _ in range(a, b)],
            ),
            # one after another their data is not in the processor's cache any more
            ("known user: all of these", lambda a, b: model.recommend_many(asked[a:b])),
        ]
        with asyncio.Runner() as runner:
            store = open_store(store_url("", out))
            app = api.create_app(lambda: model, store, model.config.serve)

            def through_routes(a: int, b: int) -> None:
                runner.run(answer_all(app, raw[a:b]))

            steps.append(("the same through FastAPI and the thread that answers", through_routes))
            return [(name, timed(step, 1), timed(step, 16) / 16) for name, step in steps]


async def answer_all(app: FastAPI, bodies: Sequence[str]) -> None:
    """Ask the routes for known users at the same time, without a socket."""

    async def answer_one(body: str) -> None:
        content = {"type": "http.request", "body": body.encode(), "more_body": False}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/recommend", "raw_path": b"/v1/recommend", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "client": ("", 0), "server": ("", 0),
        }  # fmt: skip
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return content

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await app(scope, receive, send)
        if statuses != [200]:
            raise RuntimeError(f"answered {statuses} to {body}")

    await asyncio.gather(*map(answer_one, bodies))


def timed(step: Callable[[int, int], object], size: int) -> float:
    """Median milliseconds of `step` over different slices of `size`."""
    step(0, size)
    spent = []
    for start in range(size, 20 * size, size):
        begun = time.perf_counter()
        step(start, start + size)
        spent.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(spent)


Key = tuple[str, int]


def measure_http(
    out: Path, config: Config, bodies: dict[str, list[dict[str, Any]]], options: argparse.Namespace
) -> tuple[str, dict[Key, list[Load]]]:
    """Start everything, then ask the floor and the service in turns."""
    proxy = choose_proxy(config)
    from pipelines.cluster import connect, shutdown  # noqa: PLC0415 - reads the environment when imported

    connect(config.ray)
    try:
        from ray import serve  # noqa: PLC0415

        from serving import app  # noqa: PLC0415

        app.start(out, config.serve)
        for name, log in (("floor", True), ("floor without access log", False)):
            serve.run(floor(name, log), name=name, route_prefix=prefix(name))
        port = config.serve.port
        asks = {
            kind: [message("/v1/recommend", port, body) for body in of_kind]
            for kind, of_kind in bodies.items()
        }
        for name in ("floor", "floor without access log"):
            asks[name] = [message(f"{prefix(name)}/answer", port, {"user_id": "user-00001"})]
        loads: dict[Key, list[Load]] = {}
        for requests in asks.values():
            asyncio.run(ask(port, requests, 4, 1.0))
        for _ in range(options.rounds):
            for concurrency in (1, 8, 64):
                for kind in ("floor", "floor without access log", *bodies):
                    load = asyncio.run(ask(port, asks[kind], concurrency, options.seconds))
                    loads.setdefault((kind, concurrency), []).append(load)
        app.stop()
    finally:
        shutdown()
    return proxy, loads


def prefix(name: str) -> str:
    """Route of a floor."""
    return "/" + name.replace(" ", "-")


def floor(name: str, access_log: bool) -> Any:  # noqa: ANN401 - Serve's
    """A deployment that reads a body and answers at once."""
    from ray import serve  # noqa: PLC0415
    from ray.serve.schema import LoggingConfig  # noqa: PLC0415

    def routes() -> FastAPI:
        app = FastAPI()

        @app.post("/answer")
        async def answer(body: dict[str, str]) -> dict[str, str]:
            return body

        return app

    class Ingress:
        """Holds nothing."""

    deployment = serve.deployment(
        name=name.replace(" ", "_"),
        max_ongoing_requests=64,
        logging_config=LoggingConfig(enable_access_log=access_log),
    )
    ingress: Any = serve.ingress(routes)(Ingress)
    return deployment(ingress).bind()


def message(path: str, port: int, body: dict[str, Any]) -> bytes:
    """A whole HTTP request."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def ask(port: int, requests: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Keep `concurrency` connections busy; every answer has to be a 200."""
    spent: list[float] = []
    deadline = time.perf_counter() + seconds

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        n = first
        while (begun := time.perf_counter()) < deadline:
            # no text comes twice: the service would remember it
            writer.write(requests[n % len(requests)].replace(NUMBER.encode(), b"%08d" % next(NUMBERS)))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(f"not answered: {head!r}")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            spent.append(1e3 * (time.perf_counter() - begun))
            n += 1
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(connection(31 * c) for c in range(concurrency)))
    return Load(
        len(spent) / (time.perf_counter() - begun), statistics.median(spent), float(np.quantile(spent, 0.99))
    )


def middle(loads: list[Load]) -> Load:
    """Median over rounds of each figure."""
    return Load(
        *(statistics.median(getattr(load, name) for load in loads) for name in ("per_second", "p50", "p99"))
    )


def render(
    options: argparse.Namespace,
    proxy: str,
    loads: dict[Key, list[Load]],
    parts: list[tuple[str, float, float]],
) -> str:
    """The page."""
    figures = {key: middle(found) for key, found in loads.items()}
    lines = [
        "# Serving on CPU",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/service.py --items {options.items} --seconds {options.seconds:g} --rounds "
        f"{options.rounds} --proxy {options.proxy}`. {proxy}, one replica; client, proxy and replica share "
        f"{os.cpu_count()} CPUs. Load average at the end: {os.getloadavg()[0]:.1f} "
        "(the measurement itself makes 2 to 3).",
        "",
        f"{options.items:,} items, {N_USERS:,} users. The floor is a FastAPI route that reads the body "
        "and answers at once.",
        "",
        "| concurrency | request | requests/s | of floor's | p50 ms | over floor | p99 ms | times floor's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (kind, concurrency), load in figures.items():
        base = figures["floor", concurrency]
        lines.append(
            f"| {concurrency} | {kind} | {load.per_second:.0f} | {load.per_second / base.per_second:.2f} | "
            f"{load.p50:.2f} | {load.p50 - base.p50:+.2f} | {load.p99:.2f} | {load.p99 / base.p99:.2f} |"
        )
    lines += ["", *targets(figures), "", "What a request is made of, in process, milliseconds:", ""]
    lines += ["| part | alone | in a batch of 16 |", "|---|---|---|"]
    lines += [f"| {name} | {alone:.2f} | {batched:.2f} |" for name, alone, batched in parts]
    quiet, base = figures["floor without access log", 1], figures["floor", 1]
    lines += [
        f"| HTTP and Serve, with its access log | {base.p50:.2f} | |",
        f"| of that, the access log | {base.p50 - quiet.p50:.2f} | |",
    ]
    return "\n".join(lines) + "\n"


def targets(figures: dict[Key, Load]) -> list[str]:
    """What was aimed at and whether it was reached."""
    lines = ["| aim | found | reached |", "|---|---|---|"]

    def add(aim: str, found: float, limit: float, more: bool = False) -> None:
        reached = found >= limit if more else found <= limit
        lines.append(f"| {aim} | {found:.2f} | {'yes' if reached else 'no'} |")

    one, base = figures["known user", 1], figures["floor", 1]
    add("known user: p50 at most 3 ms over the floor", one.p50 - base.p50, 3.0)
    for c in (1, 8, 64):
        ratio = figures["known user", c].p99 / figures["floor", c].p99
        add(f"known user: p99 at most twice the floor's at concurrency {c}", ratio, 2.0)
    add("new text: p50 at most 12 ms over the floor", figures["new text", 1].p50 - base.p50, 12.0)
    best = {kind: max(figures[kind, c].per_second for c in (1, 8, 64)) for kind in ("known user", "floor")}
    add(
        "known user: at least half the floor's requests/s", best["known user"] / best["floor"], 0.5, more=True
    )
    return lines


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
