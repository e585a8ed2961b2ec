"""The version in service that a rebuild starts from and is measured against; plain builds have none."""

from __future__ import annotations

from dataclasses import asdict, dataclass

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
