"""What a definition says that its own shape does not show to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.core.bundle import check_bundle
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from serving.experiments.definition import Definition


def check_definition(
    definition: Definition, kinds: Mapping[str, float], check_version: Callable[[str], None]
) -> None:
    """See that an experiment can be answered and measured here.

    Args:
        definition: to be begun.
        kinds: of events, data.event_weights.
        check_version: raises InputError where a version is not there or not whole.

    Raises:
        InputError: names what cannot.

    """
    for metric in definition.metrics:
        for kind in (metric.event, metric.per):
            if kind is not None and kind not in kinds:
                raise InputError(
                    f"metric {metric.name}: {kind!r} is no event of this build; it knows {', '.join(kinds)}."
                )
    for variant in definition.variants:
        if variant.settings.version is not None:
            check_version(variant.settings.version)


def no_versions(version: str) -> None:
    """For a service with nothing but the version in service.

    Raises:
        InputError: always.

    """
    raise InputError(f"version '{version}' cannot be tried: this service has no other versions.")


def check_version(layout: Layout, version: str) -> None:
    """See that a published version is there and whole.

    Raises:
        InputError: it is not.

    """
    try:
        check_bundle(layout.bundle(version))
    except (ArtefactError, OSError) as e:
        there = sorted(path.parent.name for path in layout.bundles.glob("*/manifest.json"))
        raise InputError(
            f"version '{version}' cannot be tried: {e} Published here: {', '.join(there)}."
        ) from e
