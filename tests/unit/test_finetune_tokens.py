"""Token tables against the tokenizer, and templates against what each family of tokenizers makes of texts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.finetune.tokens import Template, TokenTable, tokenize, write_tokens
from tests.unit.tiny_models import MODELS, make_tokenizer, token_table

TEXTS = ["a red chair", "", "红色的木椅子", "chair 椅子 " * 30, "a"]


@pytest.mark.parametrize("family", MODELS)
def test_a_template_puts_special_tokens_where_the_tokenizer_does(family: str) -> None:
    tokenizer = make_tokenizer(family)
    template, table = Template.of(tokenizer), token_table(tokenizer, TEXTS, 400)
    for row, text in enumerate(TEXTS):
        if text:
            assert template.one(table[row], 500) == tokenizer(text)["input_ids"], text
    if tokenizer("a", "a")["input_ids"] != [*tokenizer("a")["input_ids"]] * 2:  # it has pairs
        pair = template.several([table[0], table[2]], 500)
        assert pair == tokenizer(TEXTS[0], TEXTS[2])["input_ids"]


def test_where_special_tokens_stand() -> None:
    special = {family: Template.of(make_tokenizer(family)) for family in MODELS}
    assert (special["bert"].prefix, special["bert"].middle, special["bert"].suffix) == ((2,), (3,), (3,))
    assert (special["xlnet"].prefix, special["xlnet"].middle, special["xlnet"].suffix) == ((), (2,), (2, 3))
    assert special["roberta"].middle == (2, 2)
    # none around a text: the end-of-text token between two
    assert special["gpt2"] == special["qwen2"] == Template((), (0,), ())


def test_a_template_cuts_text_and_keeps_special_tokens() -> None:
    template = Template(prefix=(101,), middle=(102,), suffix=(103, 104))
    assert template.one(list(range(9)), 6) == [101, 0, 1, 2, 103, 104]
    assert template.one([], 6) == [101, 103, 104]
    # room for 7: the short one stays whole, the long ones share what it leaves
    parts = [[1, 1, 1, 1, 1], [2], [3, 3, 3, 3, 3]]
    assert template.several(parts, 12) == [101, 1, 1, 1, 102, 2, 102, 3, 3, 3, 103, 104]
    assert len(template.several(parts, 11)) == 11
    assert template.several(parts, 100) == [101, 1, 1, 1, 1, 1, 102, 2, 102, 3, 3, 3, 3, 3, 103, 104]
    assert template.several([], 10) == [101, 103, 104]


def test_a_sequence_is_never_empty() -> None:
    """A decoder has no special tokens around a text."""
    template = Template((), (7,), ())
    assert template.one([], 10) == template.several([], 10) == template.several([[]], 10) == [7]


def test_a_tokenizer_that_no_template_describes_is_refused() -> None:
    class Reversing:
        """Special tokens inside a text."""

        eos_token_id = None

        def __call__(self, *_: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [1, 9, 2] if add_special_tokens else [1, 2]}

    with pytest.raises(ConfigError, match=r"Reversing makes \[1, 9, 2\]"):
        Template.of(Reversing())


def test_a_table_holds_the_tokens_of_each_text(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    parts = [tokenize(tokenizer, TEXTS[:2], [[]] * 2, 12), tokenize(tokenizer, TEXTS[2:], [[]] * 3, 12)]
    write_tokens(tmp_path / "table.arrow", parts)
    table = TokenTable.open(tmp_path / "table.arrow")
    assert len(table) == len(TEXTS)
    for row, text in enumerate(TEXTS):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"][:12]
        assert table[row].tolist() == expected
        assert table.fields(row).tolist() == [0] * len(expected)


def test_a_token_knows_the_field_it_came_from() -> None:
    tokenizer = make_tokenizer("bert")
    text = "red chair. made of wood. 木椅子"
    table = TokenTable(pa.Table.from_batches([tokenize(tokenizer, [text], [[11, 25]], 50)]))
    parts = (text[:11], text[11:25], text[25:])
    for field, part in enumerate(parts):
        found = table[0][table.fields(0) == field].tolist()
        assert found == tokenizer(part, add_special_tokens=False)["input_ids"]
    assert sorted(set(table.fields(0))) == [0, 1, 2]


def test_an_empty_table_and_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "table.arrow"
    write_tokens(path, [])
    assert len(TokenTable.open(path)) == 0
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtefactError, match="Run `kindling finetune` again"):
        TokenTable.open(path)
    with pytest.raises(ArtefactError, match="cannot be read"):
        TokenTable.open(tmp_path / "none.arrow")
