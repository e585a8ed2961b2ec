"""The stage `profile` on artefacts made by hand: what its files hold, and what they never depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pipelines.core import blend
from pipelines.core.layout import Layout, ModelName
from pipelines.core.relations import given_links, shared_values, smooth
from pipelines.core.schema import RELATIONS
from pipelines.core.storage import read_rows, read_tensors, write_json, write_rows, write_table
from pipelines.profile import _known
from tests.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FloatArray = npt.NDArray[np.float32]
MODELS: tuple[ModelName, ...] = ("train", "newcomers", "full")
N_ITEMS, N_USERS, WIDTH = 30, 12, 8
WARM = np.arange(N_ITEMS) < 20
UNSEEN = np.arange(N_ITEMS) >= 27
"""The first 20 items train, the last 3 have no pairs at all, those between are held out."""
ALL_PAIRS = [(u, i) for u in range(N_USERS) for i in range(N_ITEMS) if (u + 3 * i) % 7 == 0 and not UNSEEN[i]]
PAIRS: dict[ModelName, list[tuple[int, int]]] = {
    "train": [(u, i) for u, i in ALL_PAIRS if WARM[i]],
    "newcomers": [(u, i) for u, i in ALL_PAIRS if u % 4],
    "full": ALL_PAIRS,
}
LINKS = [(i, "cites", (5 * i + 3) % N_ITEMS) for i in range(0, N_ITEMS, 2)]
BRANDS = [f"brand {i % 5}" for i in range(N_ITEMS)]

PROGRAM = """
import json, sys
from pathlib import Path
from pipelines.cluster import connect
from pipelines.core.config import parse_config
from pipelines.core.layout import Layout
from pipelines.progress import Progress
from pipelines import profile
answers = []
for out, settings in json.loads(sys.argv[1]):
    config = parse_config(settings, "test")
    connect(config.ray)
    try:
        answers.append(profile.run(config, Layout(Path(out)), "", Progress(quiet=True)))
    except Exception as e:
        answers.append({"error": str(e)})
print(json.dumps(answers))
"""


def artefacts(out: Path, *, cold_seed: int = 0, users_write: bool = True) -> Layout:
    """What the stages before would have written; `cold_seed` changes texts and vectors of cold items alone."""
    layout = Layout(out)
    rng = np.random.default_rng(7)
    texts = blend.normalize(rng.standard_normal((N_ITEMS, WIDTH)).astype(np.float32) + 0.5)
    vectors = rng.standard_normal((N_ITEMS, 3)).astype(np.float32)
    words = blend.normalize(rng.standard_normal((N_USERS, WIDTH)).astype(np.float32))
    other = np.random.default_rng(cold_seed)
    texts[~WARM] = blend.normalize(other.standard_normal((10, WIDTH)).astype(np.float32))
    vectors[~WARM] = other.standard_normal((10, 3))
    texts[[4, 22]] = vectors[[6, 23]] = words[[2]] = 0
    said = [f"blue{i % 3} pot{i % 5}" if WARM[i] else f"red{cold_seed} pot{i % 5}" for i in range(N_ITEMS)]
    for start, stop in ((0, 11), (11, N_ITEMS)):
        write_rows(layout.text_embeddings("items"), start, texts[start:stop])
        image = pa.FixedSizeListArray.from_arrays(pa.array(vectors[start:stop].ravel()), 3)
        part = pa.table({"text": said[start:stop], "brand": BRANDS[start:stop], "image": image})
        write_table(layout.tables / "items" / f"part-{start:06d}.parquet", part)
    write_rows(layout.text_embeddings("users"), 0, words if users_write else 0 * words)
    write_table(layout.tables / "users" / "part-000000.parquet", pa.table({"text": ["pot1"] * N_USERS}))
    write_table(layout.queries / "part-000000.parquet", pa.table({"text": ["red1 pot2"]}))
    write_rows(layout.text_embeddings("queries"), 0, words[:1])
    write_json(layout.split_report, {"newcomers_model": "newcomers"})
    for table, n in (("items", N_ITEMS), ("users", N_USERS)):
        write_table(layout.ids(table), pa.table({"id": [str(i) for i in range(n)]}))
    links = pa.Table.from_pylist(
        [dict(zip(RELATIONS.names, link, strict=True)) for link in LINKS], schema=RELATIONS
    )
    write_table(layout.tables / "relations" / "part-000000.parquet", links)
    for model in MODELS:
        pairs = PAIRS[model]
        for by, order in (("user", sorted(pairs)), ("item", sorted(pairs, key=lambda p: p[::-1]))):
            table = pa.table(
                {
                    "user_idx": pa.array([u for u, _ in order], pa.int64()),
                    "item_idx": pa.array([i for _, i in order], pa.int64()),
                    "weight": pa.array([1.0] * len(order)),
                }
            )
            write_table(layout.pairs(model, by), table)  # type: ignore[arg-type]
    return layout


def run(
    run_python: Callable[[str, Sequence[str]], Finished], *jobs: tuple[Layout, dict[str, object]]
) -> list[dict[str, object]]:
    """Run the stage once per (layout, settings), in one process."""
    sent = json.dumps([(str(layout.root), settings) for layout, settings in jobs])
    finished = run_python(PROGRAM, [sent])
    assert finished.status == 0, finished.err
    answers: list[dict[str, object]] = json.loads(finished.out.splitlines()[-1])
    return answers


def made(layout: Layout, model: ModelName) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    return (
        read_rows(layout.item_profiles(model)),
        read_rows(layout.own_profiles(model)),
        read_tensors(layout.profile_means(model)),
    )


def expected(layout: Layout, model: ModelName, weight: float, blocks: bool) -> FloatArray:
    """The whole catalogue in one piece."""
    known = np.isin(np.arange(N_ITEMS), [i for _, i in PAIRS[model]])
    texts = read_rows(layout.text_embeddings("items"))
    has_text = texts.any(axis=1)
    own = blend.centre(texts, texts[known & has_text].astype(np.float64).mean(axis=0).astype(np.float32))
    links = given_links(
        pa.Table.from_pylist([dict(zip(RELATIONS.names, x, strict=True)) for x in LINKS], schema=RELATIONS),
        N_ITEMS,
        symmetric=True,
    )
    related = [*links, shared_values("brand", [pa.chunked_array([BRANDS])], N_ITEMS, 500)]
    sources = has_text & (known | (model == "full"))
    smoothed = smooth(
        own, (0, N_ITEMS), related, sources, [(0, own)], weight=weight, weights={"cites": 2.0}
    ) if weight else own  # fmt: skip
    if not blocks:
        return smoothed
    parts = sorted((layout.tables / "items").iterdir())
    vectors = np.concatenate([np.stack(pa.parquet.read_table(p)["image"].to_numpy()) for p in parts])
    mean = vectors[known & vectors.any(axis=1)].astype(np.float64).mean(axis=0).astype(np.float32)
    return blend.join_blocks(smoothed, [(0.5, vectors, mean)])


NO_WORDS: dict[str, object] = {"lexical": {"weight": 0.0}}
RELATED: dict[str, object] = {
    "relations": {"weight": 0.3, "weights": {"cites": 2.0}, "columns": ["brand"]},
    "data": {"vectors": {"image": 0.5}},
}
ENRICHED = NO_WORDS | RELATED

Run = Callable[[str, Sequence[str]], Finished]


def columns(answer: dict[str, object]) -> list[int]:
    """Widths of what is not empty."""
    return [int(width) for width in str(answer["columns"]).split("+") if width != "0"]


def test_files_hold_what_one_piece_computes(tmp_path: Path, run_python: Run) -> None:
    plain, one, many = (artefacts(tmp_path / name) for name in ("plain", "one", "many"))
    silent = artefacts(tmp_path / "silent", users_write=False)
    tagged = artefacts(tmp_path / "tagged")
    write_rows(tagged.attribute_scores, 0, np.eye(2, dtype=np.float32)[np.arange(N_ITEMS) % 2])
    labels = {"labels": {"style": ["modern", "rustic"]}, "feature_weight": 0.25}
    answers = run(
        run_python,
        (plain, NO_WORDS),
        (one, ENRICHED | {"factorize": {"shards": 1}}),
        (many, ENRICHED | {"factorize": {"shards": 5}}),
        (silent, NO_WORDS | {"publish": {"refit": False}}),
        (tagged, NO_WORDS | {"attributes": labels}),
        (plain, NO_WORDS | {"relations": {"weight": 0.3, "columns": ["colour"]}}),
        (plain, NO_WORDS | {"relations": {"weight": 0.3, "weights": {"sites": 1.0}}}),
    )
    assert answers[0]["models"] == list(MODELS)
    assert [columns(answer) for answer in answers[:5]] == [[8], [8, 3], [8, 3], [8], [8, 2]]
    linked = {end for item, _, other in LINKS for end in (item, other)}
    assert answers[2]["relations"] == {"cites": len(linked), "brand": N_ITEMS}
    assert "no such column; they have text, brand, image" in str(answers[5]["error"])
    assert "relations.weights.sites" in str(answers[6]["error"])
    for model in MODELS:
        items, own, means = made(plain, model)
        np.testing.assert_allclose(items, expected(plain, model, 0, False), atol=1e-6)
        words = read_rows(plain.text_embeddings("users"))
        np.testing.assert_allclose(own, blend.centre(words, means["user_mean"]), atol=1e-6)
        assert not own[2].any()
        for layout in (one, many):
            found, found_own, found_means = made(layout, model)
            np.testing.assert_allclose(found, expected(layout, model, 0.3, True), atol=1e-6)
            np.testing.assert_allclose(found_own, blend.pad(own, WIDTH + 3), atol=1e-6)
            assert {v.shape for v in found_means.values()} == {(WIDTH,)}
    block = made(tagged, "train")[0][:, WIDTH:]
    np.testing.assert_allclose(np.linalg.norm(block, axis=1), 0.25, atol=1e-6)
    assert (block[::2] @ block[1::2].T < 0).all()
    means = made(silent, "train")[2]
    np.testing.assert_array_equal(means["user_mean"], means["item_mean"])
    assert not silent.item_profiles("full").exists()


def test_what_cold_items_say_reaches_no_warm_profile(tmp_path: Path, run_python: Run) -> None:
    """Embeddings, words and vectors of all cold items are other ones; the evaluated model must not notice."""
    before, after = artefacts(tmp_path / "before"), artefacts(tmp_path / "after", cold_seed=1)
    settings = RELATED | {"lexical": {"weight": 0.6}}
    answers = run(run_python, (before, settings), (after, settings))
    assert len(columns(answers[0])) == 3, "encoder, words and image"
    ours, theirs = made(before, "train"), made(after, "train")
    np.testing.assert_array_equal(theirs[0][WARM], ours[0][WARM])
    np.testing.assert_array_equal(theirs[1], ours[1])
    assert (theirs[0][~WARM] != ours[0][~WARM]).any(axis=1).all()
    for name, mean in ours[2].items():
        np.testing.assert_array_equal(theirs[2][name], mean)
    full = (read_rows(layout.item_profiles("full"))[WARM] for layout in (before, after))
    assert not np.array_equal(*full), "the published model may"


def test_a_handful_of_touched_items_does_not_speak_for_all(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_table(layout.ids("items"), pa.table({"item_id": [f"i{n}" for n in range(100)]}))
    for touched in (9, 10):
        rows = np.arange(touched, dtype=np.int64)
        pairs = pa.table({"user_idx": rows, "item_idx": rows * 2, "weight": np.ones(touched)})
        write_table(layout.pairs("full", "item"), pairs)
        known = np.concatenate([_known(layout, "full", "item", cut) for cut in ((0, 30), (30, 100))])
        assert known.sum() == (100 if touched == 9 else 10)
