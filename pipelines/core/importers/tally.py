"""Rows that an import reads and leaves out. Nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipelines.core.errors import InputError

_BORNE = 0.05
"""Share of unreadable rows beyond which a file is not what it was taken for; as `data.max_reject_share` of a "
"build."""


@dataclass
class Tally:
    """Of one kind of rows, such as ratings.

    Attributes:
        what: the rows, for messages.
        read: rows looked at.
        bad: rows that could not be understood, by reason.
        left_out: rows left out by rule, by reason.
        examples: the first of each reason.

    """

    what: str
    read: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def reject(self, reason: str, example: str, n: int = 1) -> None:
        """Count rows that could not be understood."""
        if n:
            self.bad[reason] += n
            self.examples.setdefault(reason, example[:200])

    def leave_out(self, reason: str, example: str, n: int = 1) -> None:
        """Count rows that are sound but not wanted."""
        if n:
            self.left_out[reason] += n
            self.examples.setdefault(reason, example[:200])

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return self.read - self.bad.total() - self.left_out.total()

    def check(self) -> None:
        """Stop an import that makes no sense.

        Raises:
            InputError: too many rows could not be understood, or none stays.

        """
        if self.bad.total() > _BORNE * self.read:
            reason, n = self.bad.most_common(1)[0]
            raise InputError(
                f"{self.bad.total()} of {self.read} {self.what} cannot be understood, most of them ({n}) because: "
                f"{reason}; for example {self.examples[reason]}. Is it the right file?"
            )
        if not self.kept:
            why = "; ".join(f"{n} {reason}" for reason, n in (self.bad + self.left_out).most_common())
            raise InputError(f"no {self.what} are left of {self.read} read{': ' + why if why else ''}.")

    def as_json(self) -> dict[str, Any]:
        """For the record of an import."""
        return {
            "read": self.read, "kept": self.kept, "bad": dict(self.bad), "left_out": dict(self.left_out),
            "examples": self.examples,
        }  # fmt: skip

    @classmethod
    def from_json(cls, what: str, told: dict[str, Any]) -> Tally:
        """What `as_json` has written."""
        return cls(
            what, told["read"], Counter(told["bad"]), Counter(told["left_out"]), dict(told["examples"])
        )
