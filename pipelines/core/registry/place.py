"""What a place of published versions can do, whether it is a folder or a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.errors import InputError
from pipelines.core.pointer import Pointer

VERSION_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")


class Place(Protocol):
    """Versions lie under `bundles/<version>/`, complete once they have a manifest; `CURRENT` says which is served."""

    @property
    def reuses_names(self) -> bool:
        """Whether a name may come again after its version was deleted."""

    def __str__(self) -> str:
        """Its address, for messages."""

    def where(self, version: str) -> str:
        """The address of one version."""

    def names(self) -> list[str]:
        """Of its versions, the newest first."""

    def has(self, version: str) -> bool:
        """Whether a version is there, with its manifest."""

    def read(self, version: str, name: str) -> bytes:
        """A small file of a version.

        Raises:
            ArtefactError: it is not there.

        """

    def sizes(self, version: str) -> dict[str, int]:
        """Lengths of the files of a version that are there; empty: there is none such."""

    def check(self, version: str) -> dict[str, Any]:
        """The manifest of a version, once every byte of it has been read and found as that says.

        Raises:
            ArtefactError: names the file and what is wrong with it.

        """

    def pointer(self) -> Pointer:
        """What is in service.

        Raises:
            ArtefactError: a newer program wrote it.

        """

    def update(self, change: Callable[[Pointer], Pointer]) -> Pointer:
        """Change what is in service, so that nobody else's change is lost.

        Args:
            change: from what is there; it may be asked again, when somebody else was faster.

        Raises:
            BusyError: others are faster every time.

        """

    def push(self, version: str, root: Path) -> None:
        """Bring a whole bundle here; nobody sees it before it is complete.

        Raises:
            InputError: another bundle has its name, or had it.

        """

    def fetch(self, version: str, root: Path) -> None:
        """Bring a version into the empty directory `root`, every file checked against the manifest.

        Raises:
            ArtefactError: it is gone, or not whole.

        """

    def abandoned(self) -> list[str]:
        """Names under which something lies that is no version and never will be: of pushes that were killed."""

    def delete(self, versions: Sequence[str]) -> None:
        """Delete versions, each of which is no version any more from the first moment on; absent ones are none.

        The caller has said so in the pointer (`removing`), so that nobody puts one into service meanwhile.
        """


def check_known(place: Place, pointer: Pointer, version: str) -> None:
    """See that a version can be named.

    Raises:
        InputError: it is not there, or somebody is deleting it.

    """
    if version in (*pointer.removing, *pointer.removed):
        raise InputError(f"version {version[:80]!r} is deleted, or about to be. Take another.")
    known = place.names()
    if version not in known:
        raise InputError(f"version {version[:80]!r} is not here; there are {', '.join(known) or 'none'}.")
