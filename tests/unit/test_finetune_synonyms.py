"""Words are replaced whole, as often as asked, and fields are still where they are said to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.errors import ConfigError
from pipelines.core.finetune.synonyms import Synonyms, reworded
from pipelines.core.finetune.tokens import TokenTable

WORDS = Synonyms(
    {"tent": ("shelter",), "tent pole": ("rod",), "cup": ("mug",), "帐篷": ("天幕",), "usb线": ("数据线",)}
)


def token_table(rows: list[list[int]], wordings: TokenTable | None = None) -> TokenTable:
    columns = {"tokens": pa.array(rows, pa.list_(pa.int32())), "fields": pa.array(rows, pa.list_(pa.int8()))}
    return TokenTable(pa.table(columns), wordings)


def always(text: str) -> str:
    return WORDS.replace(text, [], 1.0, np.random.default_rng(0))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a tent, two tents, content, tent2", "a shelter, two tents, content, tent2"),
        ("tent pole and tent", "rod and shelter"),
        ("Tent TENT tEnt CUP", "Shelter SHELTER shelter MUG"),
        ("双人帐篷很轻", "双人天幕很轻"),
        ("帐篷tent帐篷", "天幕shelter天幕"),
        ("一条USB线。", "一条数据线。"),
        ("myusb线", "myusb线"),
        ("İstanbul tent", "İstanbul shelter"),
        ("", ""),
        ("nothing known", "nothing known"),
        ("tent", "shelter"),
    ],
)
def test_whole_words_are_replaced(text: str, expected: str) -> None:
    assert always(text) == expected


def test_as_many_are_replaced_as_asked_and_by_every_synonym() -> None:
    words = Synonyms({"red": ("crimson", "scarlet")})
    found, _ = words.replace("red " * 2000, [], 0.3, np.random.default_rng(1))
    counts = [found.count(w) for w in ("red ", "crimson", "scarlet")]
    assert sum(counts) == 2000
    assert counts[1] + counts[2] == pytest.approx(600, abs=80)
    assert counts[1] == pytest.approx(counts[2], abs=80)
    assert words.replace("red red", [3], 0.0, np.random.default_rng(1)) == ("red red", [3])


def test_fields_begin_where_they_did() -> None:
    fields = ["red tent", "cup of tin", "一个帐篷", "end"]
    text = " ".join(fields)
    starts = [text.index(f) for f in fields[1:]]
    new, moved = WORDS.replace(text, starts, 1.0, np.random.default_rng(0))
    cut = [new[a:b].strip() for a, b in zip([0, *moved], [*moved, len(new)], strict=True)]
    assert cut == ["red shelter", "mug of tin", "一个天幕", "end"]


def test_a_wording_depends_on_text_and_seed_alone() -> None:
    texts = [f"cup tent cup tent number {k}" for k in range(40)]
    whole, _ = reworded(WORDS, texts, [[]] * 40, 0.5, [7, 1])
    assert reworded(WORDS, texts[10:], [[]] * 30, 0.5, [7, 1])[0] == whole[10:]
    assert reworded(WORDS, texts, [[]] * 40, 0.5, [7, 2])[0] != whole
    assert len({w.rsplit(" ", 1)[0] for w in whole}) > 4


def test_every_wording_is_drawn_alike_often() -> None:
    variants = token_table([[10], [11], [20], [21]])
    original = token_table([[0], [1]], variants)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(600):
        table, row = original.wording(1, rng)
        drawn.append(int(table[row][0]))
    assert {k: round(drawn.count(k) / 200) for k in set(drawn)} == {1: 1, 11: 1, 21: 1}
    assert variants.wording(1, rng) == (variants, 1)


def test_a_file_is_read_whatever_its_capitals(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(
        json.dumps({"Tent ": ["shelter", " Tarp"], "tent": ["shelter", "bivouac"]}), encoding="utf-8"
    )
    assert Synonyms.read(path).words == {"tent": ("shelter", "Tarp", "bivouac")}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "expected an object"),
        ("{}", "expected an object"),
        ("3", "holds 3"),
        ('{"tent": "shelter"}', "'tent' is 'shelter'"),
        ('{"tent": []}', "'tent'"),
        ('{"tent": ["", "a"]}', "'tent'"),
        ('{" ": ["a"]}', "' '"),
    ],
)
def test_what_is_not_such_a_file_is_told(tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "words.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        Synonyms.read(path)
