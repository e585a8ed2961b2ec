"""What a fine-tuning leaves says afterwards what it said when it was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit, softmax

from pipelines.core.config import Config, parse_config, to_toml
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.finetune.checkpoint import copy_weights
from pipelines.core.finetune.examples import Examples, Histories
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.next_behaviour import NextBehaviour
from pipelines.core.finetune.pairwise import Pairwise
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.setup import Setup, export, prepare
from pipelines.core.finetune.taught import Taught
from pipelines.core.finetune.tokens import tokenize, write_tokens
from pipelines.core.finetune.trainable import learnable
from pipelines.core.layout import Layout
from pipelines.core.storage import write_json
from tests.unit.tiny_models import catalogue_texts, load_tiny, make_tiny

N_ITEMS = 12
LIKED = [[3, 5, 7], [2, 4], []]
WORDS = ["I love tents", "我喜欢茶", ""]
LINE = {"slope": 0.5, "offset": 0.25, "before": 0.0, "after": 0.0}
TEXTS = ["a fine kettle", "帐篷漏水"]


def left(folder: Path, objective: str, family: str = "bert") -> tuple[Layout, Setup, Config]:
    """A finished stage: random weights, examples, ids and report; with the set-up that it is of."""
    layout, tuned = Layout(folder / "out"), {"labels": "labels.csv"} if objective == "classification" else {}
    model = make_tiny(family, folder / "model")
    finetune = {
        "objective": objective,
        "max_tokens": 24,
        "precision": "float32",
        "train": "all",
        "lora_rank": 4,
    }
    config = parse_config({"encoder": {"model": str(model)}, "finetune": {**finetune, **tuned}}, "test")
    tokenizer, _ = load_tiny(family, model)
    files = ExampleFiles(layout.examples, histories_end=objective == "next_behaviour")
    layout.examples.mkdir(parents=True)
    layout.stage("ingest").mkdir(parents=True)
    for table, n in (("items", N_ITEMS), ("users", len(WORDS))):
        pq.write_table(pa.table({"id": [f"{table[0]}{i}" for i in range(n)]}), layout.ids(table))
    rows = pa.table({"user_idx": [0, 1], "item_idx": [3, 4], "label": [1.0, 0.0]})
    starts = np.cumsum([0, *map(len, LIKED)])
    files.write(Examples(rows, rows, Histories(starts, np.concatenate(LIKED).astype(np.int64)), None), 64)
    for name, texts in (("items", catalogue_texts()[:N_ITEMS]), ("users", WORDS), ("labelled", TEXTS)):
        write_tokens(files.tokens(name), [tokenize(tokenizer, texts, [[]] * len(texts), 24)])  # type: ignore[arg-type]
    write_json(files.classes, ["bad", "good", "中"])
    setup = prepare(config, files)
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(learnable(setup.learner, config.finetune).items())):
            generator = torch.Generator().manual_seed(number)
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    layout.tuned_encoder.mkdir()
    layout.finetune_config.write_text(to_toml(config), encoding="utf-8")
    calibration = {} if objective == "next_behaviour" else {"calibration": LINE}
    write_json(layout.finetune_report, {"objective": objective, **calibration})
    return layout, setup, config


def said_before(setup: Setup, sequences: Any) -> np.ndarray:  # noqa: ANN401 - what a network reads
    return reader(setup.learner.eval(), bfloat16=False)(sequences).double().numpy()


def finish(layout: Layout, setup: Setup, config: Config) -> Taught:
    weights = copy_weights(learnable(setup.learner, config.finetune))
    export(setup, weights, layout.tuned_encoder, layout.tuned_head, config)
    return Taught(layout)


def test_classes_are_calibrated_and_named(tmp_path: Path) -> None:
    layout, setup, config = left(tmp_path, "classification")
    sequences = [setup.tokenizer(text)["input_ids"] for text in TEXTS]
    expected = softmax(0.5 * said_before(setup, sequences) + 0.25, axis=1)
    found = finish(layout, setup, config).classes(TEXTS)
    for row, classes in zip(expected, found, strict=True):
        assert list(classes.values()) == sorted(classes.values(), reverse=True)
        assert [classes[name] for name in ("bad", "good", "中")] == pytest.approx(row, abs=1e-4)


@pytest.mark.parametrize("objective", ["rating", "purchase"])
def test_pairs_of_a_known_user(objective: str, tmp_path: Path) -> None:
    layout, setup, config = left(tmp_path, objective)
    asked = setup.objective
    assert isinstance(asked, Pairwise)
    items = [0, 3, 9]
    rows = pa.table(
        {
            "user_idx": [0] * 3, "item_idx": items, "label": [0.0] * 3,
            "history": [[i for i in LIKED[0] if i != item] for item in items],
        }
    )  # fmt: skip
    raw = 0.5 * asked.raw(reader(setup.learner.eval(), bfloat16=False), rows) + 0.25
    expected = expit(raw) if objective == "purchase" else raw
    taught = finish(layout, setup, config)
    found = taught.scores(["i0", "i3", "i9"], user_id="u0")
    assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    assert dict(found) == pytest.approx({f"i{i}": s for i, s in zip(items, expected, strict=True)}, abs=1e-4)
    # in other words somebody else
    assert dict(taught.scores(["i0"], words="我想要咖啡")) != pytest.approx(
        {"i0": dict(found)["i0"]}, abs=1e-6
    )
    assert taught.scores([], words="tea") == []
    for wrong, said in ((("i0", "x9"), "item 'x9' is not"), (("i0",), "user 'nobody' is not")):
        with pytest.raises(InputError, match=said):
            taught.scores(wrong, user_id=None if "x9" in wrong else "nobody", words="tea")


def test_what_comes_next(tmp_path: Path) -> None:
    _, setup, _ = left(tmp_path, "next_behaviour", "gpt2")
    asked = setup.objective
    assert isinstance(asked, NextBehaviour)
    encode = reader(setup.learner.eval(), bfloat16=False)
    for query, user_id in (("something to brew coffee", None), ("", "u0")):
        expected = asked.answer(encode, query or LIKED[0], 4, [1, 3, 6, 8, 10])
        again = left(tmp_path / (user_id or "new"), "next_behaviour", "gpt2")
        found = finish(*again).next(4, query, user_id, [f"i{i}" for i in (1, 3, 6, 8, 10)])
        assert [item for item, _ in found] == [f"i{i}" for i, _ in expected]
        assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=1e-4)


def test_what_it_was_not_taught_and_where_there_is_nothing(tmp_path: Path) -> None:
    layout, setup, config = left(tmp_path, "rating")
    taught = finish(layout, setup, config)
    with pytest.raises(InputError, match="taught 'rating', which cannot be asked for classification"):
        taught.classes(TEXTS)
    with pytest.raises(ArtefactError, match="Run `kindling finetune` first"):
        Taught(Layout(tmp_path / "nowhere"))
    write_json(layout.finetune_report, {"objective": "contrastive"})
    changed = config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"objective": "contrastive"})}
    )
    layout.finetune_config.write_text(to_toml(changed), encoding="utf-8")
    with pytest.raises(ArtefactError, match="left an encoder, which the build embeds with"):
        Taught(layout)


@pytest.mark.parametrize("objective", ["classification", "next_behaviour"])
def test_texts_are_read_as_a_build_reads_them(objective: str, tmp_path: Path) -> None:
    asks = objective == "next_behaviour"
    taught = finish(*left(tmp_path, objective, "gpt2" if asks else "bert"))

    def said(text: str) -> object:
        return taught.next(3, text, None, ["i1", "i2"]) if asks else taught.classes([text])

    expected = said("fine kettle")
    # markup, what nobody sees, and the argument of a command that is no Unicode
    for text in ("<b>fine</b>  kettle", "fine\u200b kettle", "fine kettle\udcff"):
        assert said(text) == expected
    assert said("another thing") != expected


def test_nothing_is_left_to_choose_from(tmp_path: Path) -> None:
    taught = finish(*left(tmp_path, "next_behaviour", "gpt2"))
    assert taught.next(4, "tea", None, []) == []
    assert taught.next(4, "", "u0", ["i3", "i5"]) == []  # both in the history
    with pytest.raises(InputError, match="is not in this build"):
        taught.next(4, "tea", None, ["i1\udcff"])


def test_of_a_long_history_the_newest_is_read(tmp_path: Path) -> None:
    layout, setup, config = left(tmp_path, "rating")
    rows = pa.table({"user_idx": [0, 1], "item_idx": [3, 4], "label": [1.0, 0.0]})
    of_0, asked = [0] * 20 + [2] * 60, setup.objective
    histories = Histories(np.array([0, 80, 80, 80]), np.array(of_0, dtype=np.int64))
    ExampleFiles(layout.examples).write(Examples(rows, rows, histories, None), 64)
    assert isinstance(asked, Pairwise)
    as_validated = rows.slice(0, 1).append_column("history", [[of_0[-50:]]])
    encode = reader(setup.learner.eval(), bfloat16=False)
    expected = 0.5 * asked.raw(encode, as_validated)[0] + 0.25
    taught = finish(layout, setup, config)
    assert dict(taught.scores(["i3"], user_id="u0"))["i3"] == pytest.approx(expected, abs=1e-5)
    oldest = asked.sequences(asked.users[0], of_0, asked.items[3])  # type: ignore[index]
    assert oldest != asked.prepare(as_validated, None).sequences
