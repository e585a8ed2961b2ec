"""Whether clean tables are enough to build from; the same answer for a build and for `kindling data validate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipelines.core.config import Config


def problems(
    counts: Mapping[str, Counter[str]], n_active_users: int, config: Config
) -> list[tuple[str, str]]:
    """What stops a build, as (table, message), most telling first; empty when nothing does.

    Args:
        counts: per table `read`, `kept`, `rejected`, and for items `without_text`.
        n_active_users: distinct users with a usable interaction.
        config: sets the share of rejects that is borne and whether behaviour is needed at all.

    """
    found = []
    for table, count in counts.items():
        if not count["kept"] and (
            table == "items" or (table == "interactions" and not config.data.text_only)
        ):
            by_rule = "".join(
                f", {v} {k.replace('_', ' ')}"
                for k, v in count.items()
                if v and k.startswith(("below", "withdrawn", "forgotten"))
            )
            found.append(
                (
                    table,
                    f"table '{table}' has no usable rows: {count['read']} read, {count['rejected']} rejected{by_rule}. "
                    "Nothing can be built from it",
                )
            )
        elif count["rejected"] > config.data.max_reject_share * count["read"]:
            found.append(
                (
                    table,
                    f"table '{table}': {count['rejected']} of {count['read']} rows were rejected, more than "
                    f"data.max_reject_share = {config.data.max_reject_share}. Mend them, or raise the share",
                )
            )
    if 0 < counts["items"]["kept"] <= counts["items"]["without_text"]:
        columns = ", ".join(config.data.item_text)
        found.append(
            (
                "items",
                f"none of the {counts['items']['kept']} items has any text in the columns {columns}. Set "
                "data.item_text to the columns that describe them",
            )
        )
    if n_active_users < 2 and counts["interactions"]["kept"] and not config.data.text_only:
        found.append(
            (
                "interactions",
                f"interactions name {n_active_users} user; at least 2 are needed to learn from behaviour. Add "
                "interactions, or set data.text_only = true to build from text alone",
            )
        )
    return found
