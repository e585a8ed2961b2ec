"""Files of labelled texts: what is read, what is refused and why, and what is kept for validation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import InputError
from pipelines.core.finetune.labels import Labelled, read_labels, stratified_split

ROWS = [("很好用", "pos"), ("good", "pos"), ("太差了", "neg"), ("bad, really", "neg")]


def write_rows(path: Path, rows: list[tuple[Any, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [x for _, x in rows]}), path)
    elif path.suffix == ".csv":
        path.write_text("text,label\n" + "".join(f'"{t}",{x}\n' for t, x in rows), encoding="utf-8")
    else:
        lines = "\n".join(json.dumps({"text": t, "label": x}, ensure_ascii=False) for t, x in rows)
        raw = lines.encode()
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv", "a.jsonl.gz"])
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    found = read_labels(write_rows(tmp_path / name, ROWS))
    assert found.texts == tuple(t for t, _ in ROWS)
    assert found.classes == ("neg", "pos")
    assert found.labels.tolist() == [1, 1, 0, 0]


def test_numbers_and_truths_are_classes_too(tmp_path: Path) -> None:
    rows: list[tuple[Any, Any]] = [("a", 1), ("b", 1), ("c", 0), ("d", 0)]
    whole = read_labels(write_rows(tmp_path / "a.parquet", rows))
    gaps = read_labels(write_rows(tmp_path / "b.parquet", [(t, float(x)) for t, x in rows]))
    truths = read_labels(write_rows(tmp_path / "c.jsonl", [(t, bool(x)) for t, x in rows]))
    assert whole.classes == gaps.classes == ("0", "1")
    assert whole.labels.tolist() == gaps.labels.tolist() == truths.labels.tolist() == [1, 1, 0, 0]


def test_texts_are_cleaned_as_all_texts_are(tmp_path: Path) -> None:
    rows = [("<b>nice</b>  thing", "a"), ("b", "a"), ("c", "b"), ("d", "b")]
    assert read_labels(write_rows(tmp_path / "a.parquet", rows)).texts[0] == "nice thing"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ("  ", "pos"), (None, "neg")], r"2 rows have no text.*: 5, 6"),
        ([*ROWS, ("x", None)], r"1 rows have no label.*: 5"),
        ([("a", "pos"), ("b", "pos")], r"only the class 'pos'; expected two classes"),
        ([*ROWS, ("once", "other")], r"1 of 3 classes have a single text: 'other'.*merge"),
        ([*ROWS, ("same", "other"), ("same", "other")], r"1 of 3 classes have a single text: 'other'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, rows: list[tuple[Any, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(write_rows(tmp_path / "a.parquet", rows))


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(InputError, match="no rows; expected two classes"):
        read_labels(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(("columns", "lacks"), [(("text", "stars"), "label"), (("body", "label"), "text")])
def test_a_missing_column(tmp_path: Path, columns: tuple[str, str], lacks: str) -> None:
    pq.write_table(pa.table({c: ["a", "b"] for c in columns}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"no column '{lacks}', only: {', '.join(columns)}"):
        read_labels(str(tmp_path / "a.parquet"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_labels(str(tmp_path / name))


def test_a_file_of_another_kind() -> None:
    with pytest.raises(InputError, match=r"labels\.xlsx'.*parquet"):
        read_labels("labels.xlsx")


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x"}\nnot json\n')
    with pytest.raises(InputError, match="row 2: not JSON"):
        read_labels(str(path))


def test_split_a_fifth_of_each_class_by_seed() -> None:
    made = Labelled(tuple(f"t{i}" for i in range(60)), np.repeat([0, 1, 2], [40, 15, 5]), ("a", "b", "c"))
    train, held = stratified_split(made, 1000, seed=3)
    assert np.bincount(made.labels[held]).tolist() == [8, 3, 1]
    assert sorted([*train, *held]) == list(range(60))
    again, other = stratified_split(made, 1000, seed=3)[1], stratified_split(made, 1000, seed=4)[1]
    assert held.tolist() == again.tolist() != other.tolist()


def test_split_every_class_on_both_sides() -> None:
    made = Labelled(("a", "b", "c", "d"), np.array([0, 0, 1, 1]), ("x", "y"))
    for part in stratified_split(made, 1000, seed=0):
        assert sorted(made.labels[part]) == [0, 1]


def test_split_no_more_than_asked_for() -> None:
    made = Labelled(tuple(map(str, range(1000))), np.arange(1000) % 2, ("x", "y"))
    assert len(stratified_split(made, 50, seed=0)[1]) == 50


def test_split_equal_texts_stay_together() -> None:
    texts = tuple(f"t{i % 20}" for i in range(100))
    # t0 bears both labels
    labels = np.array([int(t in {"t1", "t2", "t3", "t4"}) for t in texts])
    labels[0] = 1
    train, held = stratified_split(Labelled(texts, labels, ("x", "y")), 1000, seed=0)
    assert len(train) + len(held) == 100
    assert len(held) > 0
    assert not {texts[i] for i in train} & {texts[i] for i in held}


def test_split_rows_are_examples() -> None:
    made = Labelled(("a", "b", "c"), np.array([0, 1, 1]), ("x", "y"))
    assert made.rows(np.array([2, 0])).to_pylist() == [
        {"text_idx": 2, "label": 1},
        {"text_idx": 0, "label": 0},
    ]
