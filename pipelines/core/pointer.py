"""What is in service, what was before, and who came after whom: the one small document that decides it.

Pure: it says what a document becomes. Who writes it so that no two writers lose one another is the places' business
(`core.registry`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipelines.core.errors import ArtefactError

POINTER_SCHEMA = 1
"""Raised when an older program would do harm to a newer pointer. Without a number it is 1."""
_MOST_EARLIER = 20
"""Versions that were in service, of which the pointer tells."""
_MOST_CHANGES = 50
_MOST_REMOVED = 1000
_Change = dict[str, str]


@dataclass(frozen=True)
class Pointer:
    """Which version is in service.

    Attributes:
        version: in service; None: none.
        earlier: in service before it, the last one first; what was rolled back from is not among them.
        history: changes, the last one first: `version`, `how` (publish, promote, rollback) and `at`.
        removing: versions that somebody is about to delete; they cannot be put into service any more.
        removed: names that were deleted where a name may not come again (S3), the last one first.

    """

    version: str | None = None
    earlier: tuple[str, ...] = ()
    history: tuple[_Change, ...] = ()
    removing: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def promoted(self, version: str, how: str = "promote") -> Pointer:
        """With another version in service; the same, if it is."""
        if version == self.version:
            return self
        earlier = self.earlier if self.version is None else (self.version, *self.earlier)
        return self._changed(version, earlier, how)

    def rolled_back(self, version: str) -> Pointer:
        """With an earlier version in service; what was before *that* stays to go back to."""
        place = self.earlier.index(version) + 1 if version in self.earlier else len(self.earlier)
        return self._changed(version, self.earlier[place:], "rollback")

    def marked(self, versions: tuple[str, ...]) -> Pointer:
        """With versions that somebody is about to delete, beside those that somebody already was."""
        return replace(self, removing=tuple(dict.fromkeys((*self.removing, *versions))))

    def spared(self, versions: tuple[str, ...]) -> Pointer:
        """Without versions among those to be deleted, which are in use after all."""
        return replace(self, removing=tuple(v for v in self.removing if v not in versions))

    def without(self, versions: tuple[str, ...], *, forever: bool) -> Pointer:
        """After versions were deleted.

        Args:
            versions: that are gone.
            forever: whether their names may not come again.

        """
        return replace(
            self,
            earlier=tuple(v for v in self.earlier if v not in versions),
            removing=tuple(v for v in self.removing if v not in versions),
            removed=tuple(dict.fromkeys((*versions, *self.removed)))[:_MOST_REMOVED]
            if forever
            else self.removed,
        )

    def _changed(self, version: str, earlier: tuple[str, ...], how: str) -> Pointer:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        change = {"version": version, "how": how, "at": now}
        return replace(
            self,
            version=version,
            earlier=earlier[:_MOST_EARLIER],
            history=(change, *self.history)[:_MOST_CHANGES],
        )

    def document(self) -> dict[str, Any]:
        """As it is written down; `metrics` is the path of the version's figures."""
        return {
            "schema_version": POINTER_SCHEMA,
            "version": self.version,
            "metrics": f"bundles/{self.version}/metrics.json" if self.version else None,
            "earlier": list(self.earlier),
            "history": list(self.history),
            "removing": list(self.removing),
            "removed": list(self.removed),
        }


def parse_pointer(document: object, where: str) -> Pointer:
    """A document as it was written; what cannot be used in it counts as absent.

    Args:
        document: JSON.
        where: it came from, for the message.

    Raises:
        ArtefactError: a newer program wrote it, in a way that this one does not know.

    """
    if not isinstance(document, dict):
        return Pointer()
    schema = document.get("schema_version", POINTER_SCHEMA)
    if not isinstance(schema, int) or schema > POINTER_SCHEMA:
        raise ArtefactError(
            f"{where} has schema version {schema!r}, this program knows {POINTER_SCHEMA}: a newer Kindling writes it. "
            "Install that."
        )
    version = document.get("version")
    changes = document.get("history")
    return Pointer(
        version if isinstance(version, str) else None,
        _names(document.get("earlier")),
        tuple(c for c in changes if isinstance(c, dict)) if isinstance(changes, list) else (),
        _names(document.get("removing")),
        _names(document.get("removed")),
    )


def _names(found: object) -> tuple[str, ...]:
    return tuple(v for v in found if isinstance(v, str)) if isinstance(found, list) else ()
