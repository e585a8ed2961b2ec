"""What benchmarks/embedding.py counts and how it asks; the code is the same on a GPU."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.encoder import PACKAGED, Encoder
from pipelines.embed import window_size

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("embedding")
    monkeypatch.setattr(module, "MATRIX", {"cpu": 64, "cuda": 64})
    return module


def test_flops_of_the_packaged_model(embedding: ModuleType) -> None:
    """Six layers of 384 and 1536: 10.6 M weights that multiply, and 4 x 6 x 384 per pair of tokens."""
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    found = embedding.model_flops(np.array([1, 10]), PACKAGED)
    assert found == 2 * weights * 11 + 4 * 6 * 384 * (1 + 100)


def test_texts_are_as_many_as_asked_and_differ(embedding: ModuleType, tmp_path: Path) -> None:
    rows = {"title": ["a chair", "a bottle", None], "categories": [["home", "wood"], None, None]}
    pq.write_table(pa.table(rows), tmp_path / "items.parquet")
    texts = embedding.item_texts(tmp_path, 5)
    assert texts[:2] == ["a chair. home wood", "a bottle"]
    assert len(set(texts)) == 5
    mixed = embedding.mixed_texts(texts, 400, np.random.default_rng(0))
    lengths = [len(t.split()) for t in mixed]
    assert len(mixed) == 400
    assert min(lengths) >= 5
    assert max(lengths) <= 400
    assert 30 < np.median(lengths) < 50


def test_a_contender_answers(embedding: ModuleType) -> None:
    options = argparse.Namespace(model=PACKAGED, device="cpu", threads=1)
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=embedding._serve, args=(embedding.EXACT, options, theirs))
    thread.start()
    assert ours.recv() > 0
    texts = ["a red chair", "a steel bottle that keeps water cold"]
    ours.send(("encode", texts))
    measured, vectors = ours.recv()
    ours.send(("forward", texts))
    _, batches = ours.recv()
    ours.send(("count", texts))
    lengths = ours.recv()
    ours.send(None)
    thread.join()
    assert measured.seconds > 0
    assert measured.matmul_flops > 0
    assert lengths == [5, 9]  # with [CLS] and [SEP]
    encoder = Encoder(embedding.EncoderConfig(dtype="float32"), "cpu")
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(batches)[::-1], vectors, atol=1e-5)  # the longest comes first


@pytest.mark.parametrize(
    ("n_texts", "n_actors", "most", "expected"),
    [
        (20_000, 2, 2048, 2000),
        (4097, 2, 2048, 1025),
        (100, 2, 2048, 50),
        (1, 3, 10, 1),
        (7, 1, 3, 3),
        (4, 8, 2, 1),
    ],
)
def test_every_actor_gets_as_many_windows(n_texts: int, n_actors: int, most: int, expected: int) -> None:
    width = window_size(n_texts, n_actors, most)
    assert width == expected <= most
    windows = -(-n_texts // width)
    assert windows % n_actors == 0 or windows <= n_actors
