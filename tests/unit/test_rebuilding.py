"""What a rebuild makes of what its parts say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.rebuilding import _ndcg, _Rebuild
from pipelines.core.config import Config, PublishConfig
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.progress import Progress


def test_figures_of_the_gate_are_told_where_there_are_any() -> None:
    asked = {"is_told": True, "metrics": {"ndcg@10": {"incumbent": 0.12345, "candidate": 0.2}}}
    too_few = asked | {"is_told": False}
    assert _ndcg({"k": 10, "slices": {"warm": asked, "cold": too_few}}) == {"warm": (0.1235, 0.2)}
    assert _ndcg({"version": "v1"}) == {}, "settings or texts changed, and nobody did anything"


def test_an_empty_registry_has_nothing_to_be_compared_with_and_one_that_is_away_is_no_empty_one(
    tmp_path: Path,
) -> None:
    def found(registry: str) -> object:
        config = Config(publish=PublishConfig(registry=registry))
        rebuild = _Rebuild(config, "", Layout(tmp_path / "out"), Progress(quiet=True))
        return rebuild._find_incumbent(datetime.now(UTC), None)

    (tmp_path / "empty").mkdir()
    assert found(str(tmp_path / "empty")) is None
    spoilt = Layout(tmp_path / "spoilt")
    spoilt.root.mkdir()
    spoilt.current.write_text('{"version": "v20260101-000000-00000000"}', encoding="utf-8")
    with pytest.raises(ArtefactError):
        found(str(spoilt.root))
