"""What is kept of an id that is not to be kept."""

from __future__ import annotations

import hashlib


def user_hash(user_id: str) -> str:
    """What is kept of the id of somebody who is to be forgotten: enough to know them by when they are met again."""
    return hashlib.sha256(user_id.encode()).hexdigest()
