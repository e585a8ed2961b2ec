"""What a rebuild starts from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.core.errors import ArtefactError
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout

BUILT = datetime(2026, 3, 1, 3, tzinfo=UTC)
PLAIN = {"version": "v1", "created_at": BUILT.isoformat()}


def after(days: float, every: int = 7, full: bool | None = None) -> Incumbent:
    return Incumbent.of(PLAIN, BUILT + timedelta(days=days), every, full)


def test_every_so_many_days_factors_start_from_nothing() -> None:
    assert [after(day).is_warm for day in (1, 6, 6.6, 7, 30)] == [True, True, False, False, False]
    assert after(1).full_at == PLAIN["created_at"]
    assert after(7).full_at == (BUILT + timedelta(days=7)).isoformat()
    assert after(400, every=0).is_warm
    assert not after(1, every=1).is_warm
    assert after(30, full=False).is_warm
    assert not after(0.1, full=True).is_warm


def test_the_days_are_counted_over_all_warm_versions_between() -> None:
    warm = PLAIN | {
        "version": "v5",
        "rebuilt": {"version": "v4", "is_warm": True, "full_at": BUILT.isoformat()},
    }
    warm["created_at"] = (BUILT + timedelta(days=5)).isoformat()
    found = Incumbent.of(warm, BUILT + timedelta(days=7), 7)
    assert (found.version, found.is_warm) == ("v5", False)


def test_the_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert Incumbent.read(layout) is None
    after(1).write(layout)
    assert Incumbent.read(layout) == after(1)
    layout.incumbent.write_text('{"version": "v1", "colour": 3}')
    with pytest.raises(ArtefactError, match="is spoilt"):
        Incumbent.read(layout)
    Incumbent.clear(layout)
    assert Incumbent.read(layout) is None
