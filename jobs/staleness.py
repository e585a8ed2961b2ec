"""How old the model in service is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.core.bundle import BundlePaths, check_manifest, current_version, read_pointer
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json


@dataclass(frozen=True)
class InService:
    """The version in service.

    Attributes:
        version: its name.
        created_at: when it was made, from the tables as they were then.
        since: when it was put into service, ISO 8601; None: that is not known.

    """

    version: str
    created_at: datetime
    since: str | None

    def hours(self, now: datetime) -> float:
        """Its age; of a version that was rolled back to, that of what it learnt from."""
        return (now - self.created_at).total_seconds() / 3600


def in_service(layout: Layout) -> InService:
    """What is in service, and since when.

    Raises:
        ArtefactError: nothing is, or its manifest cannot be read.

    """
    version = current_version(layout)
    paths = BundlePaths(layout.bundle(version))
    made = datetime.fromisoformat(check_manifest(read_json(paths.manifest), str(paths.root))["created_at"])
    changes = (c.get("at") for c in read_pointer(layout).history if c.get("version") == version)
    return InService(version, made if made.tzinfo else made.replace(tzinfo=UTC), next(changes, None))
