"""What goes wrong in a task of Ray, as if it had been raised here."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError

from pipelines.core.errors import KindlingError
from pipelines.core.layout import Layout
from pipelines.core.storage import write_text


@contextmanager
def plain_errors(layout: Layout, what: str) -> Iterator[None]:
    """What goes wrong in a task of Ray comes out as if it had been raised here; `what` is named otherwise.

    Raises:
        KindlingError: the error itself, or for one that nobody expected, where its story is written.

    """
    try:
        yield
    except KindlingError as e:
        # raised in a task it is one of ours and Ray's at once, and its text is Ray's
        raise _cause(e) or e from None
    except RayError as e:
        expected = _cause(e)
        if expected is not None:
            raise expected from None
        write_text(layout.error, "".join(traceback.format_exception(e)))
        reason = next((line for line in reversed(str(e).splitlines()) if line.strip()), type(e).__name__)
        raise KindlingError(f"{what} failed: {reason.strip()} The whole story: {layout.error}") from e


def _cause(error: BaseException) -> KindlingError | None:
    """The error of ours at the bottom of Ray's wrappings, if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KindlingError) and not isinstance(seen, RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
