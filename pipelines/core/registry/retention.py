"""Which published versions are old enough to be deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipelines.core.errors import InputError


@dataclass(frozen=True)
class Retention:
    """What is kept. A version goes when neither of the two holds it.

    Attributes:
        keep: so many stay, the one in service first, then the newest.
        days: younger ones stay, and those of unknown age; 0: age holds none.

    """

    keep: int
    days: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would leave nothing.

        Raises:
            InputError: less than one, or a negative or endless age.

        """
        if self.keep < 1:
            raise InputError(f"keep = {self.keep}: expected at least 1, for the version in service stays.")
        if not 0 <= self.days < 1e6:
            raise InputError(f"days = {self.days}: expected 0 to 1,000,000.")

    def surplus(
        self, versions: Sequence[tuple[str, str | None]], stays: Collection[str], now: datetime
    ) -> list[str]:
        """Those to delete, the newest first.

        Args:
            versions: name and `created_at` of each, the newest first.
            stays: whatever their age: in service, or in use; they count among the kept.
            now: with a time zone.

        """
        in_order = sorted(versions, key=lambda version: version[0] not in stays)  # stable: the newest first
        return [
            name
            for place, (name, created) in enumerate(in_order)
            if place >= self.keep and name not in stays and not self._is_young(created, now)
        ]

    def _is_young(self, created: str | None, now: datetime) -> bool:
        if not self.days:
            return False
        try:
            then = datetime.fromisoformat(created or "")
        except ValueError:
            return True
        return now - (then if then.tzinfo else then.replace(tzinfo=UTC)) < timedelta(days=self.days)
