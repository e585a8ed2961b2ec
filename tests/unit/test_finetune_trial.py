"""A trial of a fine-tuning beside the training it stands for, whole and interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.config import Config, parse_config
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.checkpoint import Standing
from pipelines.core.finetune.examples import Examples, Histories
from pipelines.core.finetune.files import ExampleFiles, IntArray
from pipelines.core.finetune.forgetting import GeneralTexts
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.order import BATCHES_PER_WINDOW, Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.setup import prepare
from pipelines.core.finetune.tokens import tokenize, write_tokens
from pipelines.core.finetune.trial import FinetuneTrials
from pipelines.core.search_space import Settings, apply
from pipelines.core.study import Journal, Trial, folder_of, place_of
from pipelines.core.trial import Measured
from tests.unit.tiny_models import catalogue_texts, load_tiny, make_tiny
from tests.unit.trainings import Recorder

N_ITEMS = 40
METRIC = "ndcg@20"
SETTINGS: Settings = {"finetune.learning_rate": 2e-3, "finetune.temperature": 0.1, "finetune.batch_size": 8}


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], FinetuneTrials]:
    """Trials of a study in a folder; the examples and the encoder are always the same."""
    folder = tmp_path_factory.mktemp("trials")
    model = make_tiny("bert", folder / "model")
    tokenizer, _ = load_tiny("bert", model)
    files, texts, rng = (
        ExampleFiles(folder / "examples"),
        catalogue_texts()[:N_ITEMS],
        np.random.default_rng(0),
    )
    liked = [rng.choice(N_ITEMS, size=4, replace=False) for _ in range(30)]
    rows = pa.table({"user_idx": np.repeat(np.arange(30), 4), "item_idx": np.concatenate(liked)})
    held = pa.table({"user_idx": np.arange(30), "item_idx": rng.integers(N_ITEMS, size=30)})
    files.root.mkdir()
    files.write(
        Examples(rows, held, Histories(np.arange(31, dtype=np.int64) * 4, np.concatenate(liked)), None), 640
    )
    write_tokens(files.tokens("items"), [tokenize(tokenizer, texts, [[]] * N_ITEMS, 16)])
    config = parse_config(
        {
            "encoder": {"model": str(model)},
            "finetune": {
                "objective": "contrastive", "steps": 6, "evaluate_every": 2, "batch_size": 10, "max_tokens": 16,
                "precision": "float32", "learning_rate": 1e-3, "token_dropout": 0.2,
            },
        },
        "test",
    )  # fmt: skip
    return lambda study: FinetuneTrials(config, files, study / "study.jsonl", "cpu")


class Told:
    """Who is told of passes, and interrupts one."""

    def __init__(self, stop_at: int | None = None) -> None:
        """`stop_at`: the pass after which the trial is ended from outside."""
        self.passes: list[tuple[int, Measured, bool]] = []
        self._stop_at = stop_at

    def __call__(self, number: int, best: Measured, finished: bool) -> None:
        """A pass."""
        self.passes.append((number, best, finished))
        if number == self._stop_at:
            raise SystemExit  # as Ray Tune ends a trial


class Counting(ExampleFiles):
    """Examples that count how often they are read."""

    steps = 0

    def take(self, numbers: IntArray) -> pa.Table:
        """Rows of a step."""
        Counting.steps += 1
        return super().take(numbers)


def plainly(trials: FinetuneTrials, config: Config) -> Standing:
    """The same training by the loop alone."""
    setup, settings = prepare(config, trials.files), config.finetune
    window = settings.batch_size * BATCHES_PER_WINDOW
    order = Order(trials.files.count("train"), settings.batch_size, window, settings.seed)
    training = Training(
        setup.learner, setup.objective, settings, order, trials.files.validation(), Workers(), Recorder(),
        GeneralTexts.of(setup.tokenizer),
    )  # fmt: skip

    def rows_from(first: int) -> Iterator[pa.Table]:
        return map(trials.files.take, order.steps(first))

    return training.run(rows_from)


def states(trials: FinetuneTrials) -> list[str]:
    return sorted(path.name for path in folder_of(trials.journal).glob("*"))


def test_a_trial_tells_the_best_of_the_validations_of_a_plain_training(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    ours, told = trials(tmp_path), Told()
    ours.attempt(SETTINGS, told)
    standing = plainly(ours, apply(ours.config, SETTINGS))
    values = [point.figures[METRIC] for point in standing.curve]
    assert len(set(values)) > 1
    assert [number for number, _, _ in told.passes] == [1, 2, 3]
    assert [finished for _, _, finished in told.passes] == [False, False, True]
    best = np.maximum.accumulate(values)[1:]
    np.testing.assert_allclose([found.objective for _, found, _ in told.passes], best, atol=1e-5)
    last = told.passes[-1][1]
    assert last.number == standing.best
    assert next(iter(last.figures["validation"])) == METRIC, "the one that decides comes first"
    assert last.figures["validation"].keys() == standing.curve[-1].figures.keys() | {"forgetting", "shift"}


def test_the_present_settings_are_a_trial_that_changes_nothing(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    present, same = Told(), Told()
    trials(tmp_path / "a").present(present)
    trials(tmp_path / "b").attempt({"finetune.learning_rate": 1e-3}, same)
    assert present.passes == same.passes


def test_an_interrupted_trial_goes_on_and_tells_its_passes_again(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    whole, first, second = Told(), Told(stop_at=2), Told()
    trials(tmp_path / "whole").attempt(SETTINGS, whole)
    ours = trials(tmp_path / "interrupted")
    journal = Journal(ours.journal)
    number = journal.start(SETTINGS)
    with pytest.raises(SystemExit):
        ours.attempt(SETTINGS, first)
    key = place_of(ours.journal, SETTINGS).name
    assert states(ours) == [f"{key}.000000004"], "only the latest is kept"
    (folder_of(ours.journal) / ".half").mkdir()
    journal = Journal(ours.journal)  # as another run begins
    assert states(ours) == [f"{key}.000000004"]
    read = Counting(ours.files.root)
    replace(ours, files=read).attempt(SETTINGS, second)
    assert read.steps == 2, "it began anew"
    assert first.passes == whole.passes[:2]
    assert second.passes == whole.passes
    journal.end(Trial(number, "COMPLETE", second.passes[-1][1].objective, SETTINGS, SETTINGS))
    journal.close()
    assert not folder_of(ours.journal).exists()


def test_a_state_that_cannot_be_read_is_passed_over(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    ours, again = trials(tmp_path), Told()
    with pytest.raises(SystemExit):
        ours.attempt(SETTINGS, Told(stop_at=1))
    (state,) = folder_of(ours.journal).glob("*")
    (state / "weights.safetensors").write_bytes(b"")
    ours.attempt(SETTINGS, again)
    assert [number for number, _, _ in again.passes] == [1, 2, 3]


def test_a_training_that_breaks_down_ends_with_its_best(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    told = Told()
    trials(tmp_path).attempt({"finetune.temperature": 1e-45}, told)  # cosines over it are infinite
    ((number, best, finished),) = told.passes
    assert (number, best.number, finished) == (0, 0, True)
    assert best.objective > 0


def test_settings_that_do_not_go_together_are_told(
    trials: Callable[[Path], FinetuneTrials], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="set dropout too"):
        trials(tmp_path).attempt({"finetune.r_drop": 0.5}, Told())
