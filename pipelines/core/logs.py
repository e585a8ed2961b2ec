"""What a command says while it works, as lines of JSON that name the run and the job."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from pipelines.core.runs import running_ids


def log_line(level: str, event: str, **fields: object) -> str:
    """One line: `at` (ISO 8601, UTC), `level`, `event`, `run_id` and `job_id` of the run in progress, the fields."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"at": now, "level": level, "event": event, **running_ids(), **fields},
        ensure_ascii=False,
        default=str,
    )


class JsonFormatter(logging.Formatter):
    """Messages of Python's logging in the same shape."""

    def format(self, record: logging.LogRecord) -> str:
        """One message, a traceback as one field."""
        story = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return log_line(
            record.levelname.lower(), "message", logger=record.name, message=record.getMessage(), **story
        )


def log_as_json() -> None:
    """Have all messages of this process from INFO on written to standard error, a line of JSON each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
