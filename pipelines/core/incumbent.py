"""The version in service that a rebuild starts from and is measured against; plain builds have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, write_json


@dataclass(frozen=True)
class Incumbent:
    """What a rebuild notes for its stages before they run.

    Attributes:
        version: the one in service, whole under `Layout.bundle`.
        is_warm: whether factors start from its own; otherwise from nothing, as in a plain build.
        full_at: when factors last started from nothing, this time or on the way to the version in service; ISO 8601.

    """

    version: str
    is_warm: bool
    full_at: str = ""

    @classmethod
    def of(
        cls, manifest: Mapping[str, Any], now: datetime, every_days: int, full: bool | None = None
    ) -> Incumbent:
        """What a rebuild is to start from.

        Args:
            manifest: of the version in service.
            now: of the rebuild.
            every_days: after which factors start from nothing again; 0: never.
            full: whether they do, whatever the day; None: by `every_days`.

        """
        last_full = manifest.get("rebuilt", {}).get("full_at") or manifest["created_at"]
        if full is None:  # nights are not equally long: half a day early is in time
            passed = now - datetime.fromisoformat(last_full)
            full = every_days > 0 and passed >= timedelta(days=every_days) - timedelta(hours=12)
        return cls(manifest["version"], not full, now.isoformat() if full else last_full)

    @classmethod
    def read(cls, layout: Layout) -> Incumbent | None:
        """What `write` wrote; None: this is a plain build.

        Raises:
            ArtefactError: the note is spoilt.

        """
        if not layout.incumbent.is_file():
            return None
        try:
            return cls(**read_json(layout.incumbent))
        except TypeError as e:
            raise ArtefactError(f"{layout.incumbent} is spoilt: {e}. Delete it and rebuild.") from e

    def write(self, layout: Layout) -> None:
        """For the stages of this rebuild."""
        write_json(layout.incumbent, asdict(self))

    @staticmethod
    def clear(layout: Layout) -> None:
        """What follows is a plain build."""
        layout.incumbent.unlink(missing_ok=True)
