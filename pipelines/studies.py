"""The two kinds of study: settings of what is fitted, and settings of what the encoder is taught.

Each says which stages come first, what changes its figures, what its trials share, and what it maximises; what is the
same for both is in `pipelines.tune` and `pipelines.trials`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ray

from pipelines import finetune
from pipelines.cluster import count_gpus
from pipelines.core.baselines import unavailable
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.config import Config
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.layout import Layout
from pipelines.core.material import load_material
from pipelines.core.objective import VALIDATION, WORST, WORST_FIGURE, Aim, Decides, Objective
from pipelines.core.search_defaults import FINETUNE, OURS
from pipelines.core.search_space import Space, make_space
from pipelines.core.slices import SLICES, SliceName
from pipelines.core.storage import read_json, write_json
from pipelines.core.study import Journal, folder_of
from pipelines.core.trial import ModelTrials
from pipelines.progress import Progress
from pipelines.trials import Rules

_COUNTS_WORDS = "bm25"


class Study(Protocol):
    """What is searched.

    Attributes:
        space: the settings that vary, and whose they are.
        until: the last stage that trials need.

    """

    space: Space
    until: str

    def depends_on(self) -> object:
        """Whatever could give a trial another objective; not how many are asked for, or when. For JSON."""

    def share(self, journal: Journal, progress: Progress) -> tuple[ray.ObjectRef, Rules]:
        """A reference to the `Job` of all trials, made once, and the rules they run by; Ray is there."""

    def aim(self, journal: Journal) -> Aim:
        """What is maximised; the journal has been opened, and of a fine-tuning some trial was measured."""


class ModelStudy:
    """Settings of our model, or of a baseline."""

    until = "profile"

    def __init__(self, config: Config, layout: Layout, model: str) -> None:
        """Make the space.

        Raises:
            ConfigError: it, or the model, cannot be used.

        """
        self.space = make_space(config, model)
        reason = unavailable(model)
        if reason is not None:
            raise ConfigError(f"the model '{model}' is {reason}.")
        self._config, self._layout = config, layout

    def depends_on(self) -> object:
        """See `Study`."""
        config = self._config
        return (
            repr(self.space),
            config.fingerprint("factorize", "blend", exclude=frozenset({"factorize.shards"}))
            if self.space.model == OURS
            else (baseline_settings(config).model_dump(), config.factorize.seed),
            config.tune.model_dump(
                include={"objective", "metrics", "passes", "grace", "patience", "max_users", "seed"}
            ),
            _outputs(self._layout, "ingest", "split", "profile"),
        )

    def share(self, journal: Journal, progress: Progress) -> tuple[ray.ObjectRef, Rules]:  # noqa: ARG002
        """Training, slices and what their users tell, loaded by one task."""
        job, users = _load.remote(self._layout, self._config, self.space)
        journal.open(ray.get(users))
        tune = self._config.tune
        return job, Rules(self.space, tune, tune.passes, WORST)

    def aim(self, journal: Journal) -> Objective:
        """See `Study`."""
        return _objective(self._config, journal.users or {})


@ray.remote(num_returns=2)
def _load(layout: Layout, config: Config, space: Space) -> tuple[ModelTrials, dict[str, int]]:
    """What trials share, and the users of each slice of the objective."""
    wanted = [s for s in SLICES if s in config.tune.objective]
    material = load_material(layout, wanted, config.tune.max_users, with_texts=space.model == _COUNTS_WORDS)
    users: dict[str, int] = {
        s: len(material.questions[s][0].users) if s in material.questions else 0 for s in wanted
    }
    return ModelTrials(config, space, _objective(config, users), material), users


def _objective(config: Config, users: Mapping[str, int]) -> Objective:
    """The objective over the slices that have users.

    Raises:
        InputError: none has.

    """
    weights: dict[SliceName, float] = {n: config.tune.objective[n] for n in SLICES if users.get(n)}
    if not weights:
        raise InputError(
            f"none of the slices {', '.join(config.tune.objective)} of tune.objective has users to measure on "
            "validation. Give more interactions, hold out a larger share (split.validation, split.cold_items), or "
            "name other slices."
        )
    return Objective(weights, config.tune.metrics)


class FinetuneStudy:
    """Settings of what the encoder is taught, by the figure that decides on its best checkpoint."""

    until = "split"

    def __init__(self, config: Config, layout: Layout, data: str) -> None:
        """Make the space.

        Raises:
            ConfigError: it cannot be used, or nothing is to be learnt.

        """
        self.space = make_space(config, FINETUNE)
        self._config, self._layout, self._data = config, layout, data

    def depends_on(self) -> object:
        """See `Study`."""
        config, since = finetune.continued(self._config, self._layout)
        return (
            repr(self.space),
            config.fingerprint("data", "encoder", "finetune", exclude=finetune.UNSEEN),
            finetune.fingerprint(config, self._layout, self._data),
            since,
            config.tune.model_dump(include={"grace", "seed"}),
            _outputs(self._layout, "ingest", "split"),
        )

    def share(self, journal: Journal, progress: Progress) -> tuple[ray.ObjectRef, Rules]:
        """Examples, written once beside the journal.

        Raises:
            InputError: there are none to validate on.

        """
        # with torch, which takes seconds to import: a study of other settings does without
        from pipelines.core.finetune.trial import FinetuneTrials  # noqa: PLC0415
        from pipelines.examples import files_of, write_examples  # noqa: PLC0415

        config, since = finetune.continued(self._config, self._layout)
        place = _WithOwnExamples(self._layout.root, folder_of(journal.path) / "examples")
        files = files_of(config, place)
        if not place.written.is_file():
            with progress.bar("writing examples", 1) as advance:
                newest = ray.get(write_examples.remote(config, place, since))
                advance()
            write_json(place.written, {"newest": newest})
        n = files.count("validation")
        if not n:
            raise InputError(
                f"finetune.objective = '{config.finetune.objective}': there are no examples to validate on, so no "
                "settings are better than others. Give more data, or hold out a larger share (split.validation)."
            )
        journal.open({VALIDATION: n})
        gpus = min(count_gpus(), 1)
        settings = config.finetune
        job = FinetuneTrials(config, files, journal.path, "cuda" if gpus else "cpu")
        passes = -(-settings.steps // settings.evaluate_every)
        return ray.put(job), Rules(self.space, config.tune, passes, WORST_FIGURE, gpus, repeats_present=False)

    def aim(self, journal: Journal) -> Decides:
        """See `Study`."""
        return Decides(next(next(iter(t.figures[VALIDATION])) for t in journal.ended.values() if t.figures))


@dataclass(frozen=True)
class _WithOwnExamples(Layout):
    """A build's layout but for its examples: those of its finetune stage stay as they are."""

    own_examples: Path

    @property
    def examples(self) -> Path:
        """What the trials of a study are taught from."""
        return self.own_examples

    @property
    def written(self) -> Path:
        """JSON, written when all of it is there."""
        return self.own_examples / "_DONE.json"


def _outputs(layout: Layout, *stages: str) -> dict[str, str]:
    """What the stages that trials read have written."""
    return {name: read_json(layout.marker(name))["output"] for name in stages}
