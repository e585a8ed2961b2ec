"""Encoding texts: ours beside SentenceTransformer.encode, and how far from what the processor multiplies.

    python benchmarks/embedding.py [--data DIR] [--texts N] [--threads N] [--quick] [--stage] [--out FILE]
    python benchmarks/embedding.py --device cuda [--texts 200000] [--out FILE]

Two sets of texts: items (of DIR/items.parquet, else generated) and a mix of 5 to 400 words of them, log-normal. Every
contender is a process of its own that holds its model, so that peak memory is its own; they encode in turns, and the
best round of each counts. Achieved FLOP/s are those of real tokens, without padding, over a large bfloat16 matrix
product's in our process between rounds. On a busy machine trust CPU seconds: they hardly grow when a process waits.

--stage: also the embed stage on Ray, beside as many encoders as it has actors and nothing else.
--device cuda: the same on a GPU. Needs torch, transformers, numpy, pyarrow, pydantic, tomlkit and phonenumbers, no Ray;
--data or pandas; where the peer is not installed it is left out, and the page says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import resource
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from transformers import AutoConfig

from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import PACKAGED, Encoder, model_path, resolve_dtype

FloatArray = npt.NDArray[np.float32]
OURS, EXACT, PEER = "kindling", "kindling, float32", "sentence-transformers"
TEXT_COLUMNS = ("title", "description", "brand", "categories")
WORDS = (5, 400)
MATRIX = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Round:
    """What one contender took to encode all texts once, and a matrix product's speed beside it."""

    seconds: float
    cpu_seconds: float
    matmul_flops: float
    matmul_cpu_flops: float


class Contender:
    """A process that holds one model and encodes when told."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Start it and wait until its model is loaded."""
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, options, theirs), daemon=True)
        self._process.start()
        theirs.close()  # held here, a process that fails would be waited for instead of reported
        self.loaded_mb: float = self._pipe.recv()

    def ask(self, *request: object) -> Any:  # noqa: ANN401 - by request
        """Send one request, wait for its answer."""
        self._pipe.send(request)
        return self._pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    torch.set_num_threads(options.threads)
    encode, tokenize, forward = _load(name, options)
    encode(["a text to warm up with"] * 8)
    pipe.send(peak_mb())
    while request := pipe.recv():
        verb, texts = request
        if verb in ("encode", "forward"):
            work, given = (encode, texts) if verb == "encode" else (forward, tokenize(texts))
            before = time.perf_counter(), time.process_time()
            vectors = work(given)
            seconds, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
            pipe.send((Round(seconds, cpu, *matmul_flops(options.device)), vectors))
        elif verb == "count":
            pipe.send([len(t) for t in tokenize(texts)])
        else:
            pipe.send(peak_mb())


def _load(name: str, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Texts to vectors, texts to tokens, and tokens to vectors for those of ours."""
    if name == PEER:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - only in its own process

        peer = SentenceTransformer(model_path(options.model), device=options.device)
        encode = partial(peer.encode, normalize_embeddings=True, show_progress_bar=False)
        return encode, lambda texts: peer.tokenizer(texts)["input_ids"], None
    dtype = "float32" if name == EXACT else "auto"
    encoder = Encoder(EncoderConfig(model=options.model, dtype=dtype), options.device)
    return encoder.encode, encoder.tokenize, partial(_forward, encoder)


def _forward(encoder: Encoder, tokens: list[list[int]]) -> list[FloatArray]:
    """Vectors of texts that are tokenised already, batch by batch."""
    batches = encoder.forward.batches([len(t) for t in tokens])
    return [rows.cpu().numpy() for rows in [encoder.forward([tokens[j] for j in b]) for b in batches]]


def peak_mb() -> float:
    """The most memory this process has held, in MB; of the host, also where a GPU computes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_flops(device: str, seconds: float = 0.5) -> tuple[float, float]:
    """FLOP per second, and per CPU second, of a large matrix product in the format the encoder would take."""
    n = MATRIX[device]
    a = torch.randn(n, n, device=device).to(getattr(torch, resolve_dtype("auto")))
    best, cpu = 0.0, 0.0
    end = time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < end or not best:
            _wait(device)
            before = time.perf_counter(), time.process_time()
            for _ in range(3):
                a @ a
            _wait(device)
            work = 3 * 2.0 * n**3
            best = max(best, work / (time.perf_counter() - before[0]))
            cpu = max(cpu, work / (time.process_time() - before[1]))
    return best, cpu


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def model_flops(lengths: npt.NDArray[np.int64], model: str) -> float:
    """Multiplications and additions of all layers over texts of so many tokens.

    Two per weight and token: 4 h^2 weights of attention and 2 h i of the two dense layers. Scores and their
    product with the values take 2 h n each per token.
    """
    config = AutoConfig.from_pretrained(model_path(model))
    h, i = config.hidden_size, config.intermediate_size
    per_token = 2 * (4 * h * h + 2 * h * i) + 4 * h * lengths
    return float(config.num_hidden_layers * (per_token * lengths).sum())


def item_texts(data: Path | None, n: int) -> list[str]:
    """Texts of items, repeated when there are fewer; each made different by a number, so that no cache helps."""
    if data:
        path = data / "items.parquet"
        columns = [c for c in TEXT_COLUMNS if c in pq.read_schema(path).names]
        rows = pq.read_table(path, columns=columns).to_pylist()
        texts = [". ".join(_cell(row[c]) for c in columns if row[c]) for row in rows]
    else:
        from pipelines.core.catalogue import GeneratorConfig, generate  # noqa: PLC0415 - needs pandas

        size = GeneratorConfig(n_items=min(n, 4000), n_users=50, n_interactions=500)
        items_df = generate(size).items_df
        texts = (items_df["title"] + ". " + items_df["description"].fillna("")).tolist()
    texts = [t for t in texts if t]
    return [texts[k % len(texts)] + (f" {k}" if k >= len(texts) else "") for k in range(n)]


def _cell(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def mixed_texts(texts: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """`n` texts of 5 to 400 words drawn from `texts`, most of them short: log-normal, median 40."""
    words = np.array(" ".join(texts).split())
    lengths = np.clip(np.exp(rng.normal(np.log(40), 0.9, n)), *WORDS).astype(int)
    return [" ".join(words[rng.integers(0, len(words), k)]) for k in lengths]


def compare(
    name: str, texts: list[str], contenders: list[Contender], options: argparse.Namespace
) -> list[str]:
    """Rounds of all contenders in turns; a Markdown section."""
    rounds: dict[str, list[Round]] = {c.name: [] for c in contenders}
    vectors: dict[str, FloatArray] = {}
    for _ in range(options.rounds):
        for contender in contenders:
            found, vectors[contender.name] = contender.ask("encode", texts)
            rounds[contender.name].append(found)
            print(
                f"{name}: {contender.name} {found.seconds:.2f} s, {found.cpu_seconds:.2f} CPU s", flush=True
            )
    lengths = np.array(contenders[0].ask("count", texts))
    work = model_flops(lengths, options.model)
    speed = max(r.matmul_flops for r in rounds[OURS])
    speed_cpu = max(r.matmul_cpu_flops for r in rounds[OURS])
    lines = [
        f"## {name}", "",
        f"{len(texts)} texts, {lengths.sum()} tokens: median {int(np.median(lengths))}, mean {lengths.mean():.0f}, "
        f"longest {lengths.max()}. A product of {MATRIX[options.device]} squared in {resolve_dtype('auto')}: "
        f"{speed / 1e9:.0f} GFLOP/s.", "",
        "| | texts/s | CPU s | of the product's FLOP/s | the same per CPU second | peak MB | least cosine to float32 |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for c in contenders:
        seconds = min(r.seconds for r in rounds[c.name])
        cpu = min(r.cpu_seconds for r in rounds[c.name])
        cosine = float((vectors[c.name] * vectors[EXACT]).sum(axis=1).min())
        lines.append(
            f"| {c.name} | {len(texts) / seconds:.0f} | {cpu:.2f} | {work / seconds / speed:.0%} | "
            f"{work / cpu / speed_cpu:.0%} | {c.ask('memory', None):.0f} | {cosine:.5f} |"
        )
    alone = [contenders[0].ask("forward", texts)[0] for _ in range(options.rounds)]
    seconds, cpu = min(r.seconds for r in alone), min(r.cpu_seconds for r in alone)
    lines += [
        "", f"The model alone, texts tokenised before: {work / seconds / speed:.0%} of the product's FLOP/s, "
        f"{work / cpu / speed_cpu:.0%} per CPU second.",
    ]  # fmt: skip
    if PEER in rounds:
        wall, cpu = (
            min(getattr(r, what) for r in rounds[PEER]) / min(getattr(r, what) for r in rounds[OURS])
            for what in ("seconds", "cpu_seconds")
        )
        lines += ["", f"**{wall:.2f} times the texts/s of {PEER}**; by CPU seconds {cpu:.2f} times."]
    return [*lines, ""]


def _where(device: str) -> str:
    """Date, hardware and commit, of which a bare machine with a GPU may know less."""
    try:
        from quality import circumstances  # noqa: PLC0415 - needs more than encoding does

        here = circumstances()
    except ModuleNotFoundError as e:
        here = f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor()} ({e.name} is not installed)."
    return f"{here} {torch.cuda.get_device_name()}." if device == "cuda" else here


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="a folder with items.parquet; without it texts are generated"
    )
    parser.add_argument(
        "--texts", type=int, help="of each set; default 2000, with --quick 300, on a GPU 100000"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every contender")
    parser.add_argument("--model", default=PACKAGED)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="300 texts, and 2000 of the stage")
    parser.add_argument("--stage", action="store_true", help="the embed stage on Ray too")
    parser.add_argument("--stage-texts", type=int, help="default 20000, with --quick 2000")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n = options.texts or (300 if options.quick else 100_000 if options.device == "cuda" else 2000)
    items = item_texts(options.data, n)
    sets = {"items": items, "mix of 5 to 400 words": mixed_texts(items, n, np.random.default_rng(42))}
    has_peer = importlib.util.find_spec("sentence_transformers") is not None
    contenders = [Contender(name, options) for name in (OURS, EXACT, *([PEER] if has_peer else []))]
    lines = [
        f"# Embedding on {'a GPU' if options.device == 'cuda' else 'a CPU'}",
        "",
        _where(options.device),
        "",
    ]
    data = "--data DIR " if options.data else ""
    lines += [
        f"Command: `python benchmarks/embedding.py {data}--texts {n} --rounds {options.rounds} --threads "
        f"{options.threads} --device {options.device}{' --stage' if options.stage else ''}`. "
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}.", "",
    ]  # fmt: skip
    if not has_peer:
        lines += [f"{PEER} is not installed (pip install 'kindling[bench]'), hence not compared.", ""]
    for name, texts in sets.items():
        lines += compare(name, texts, contenders, options)
    for contender in contenders:
        contender.stop()
    if options.stage:
        from embedding_stage import stage_lines  # noqa: PLC0415 - needs Ray

        lines += stage_lines(
            sets["mix of 5 to 400 words"], options.stage_texts or (2000 if options.quick else 20_000)
        )
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
