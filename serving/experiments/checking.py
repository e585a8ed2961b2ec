"""What a definition says that its own shape does not show to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.registry.place import Place, check_known
from serving.experiments.definition import Definition
from serving.store.experiments import Experiment, Experiments


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


def begin(
    experiments: Experiments,
    definition: Definition,
    kinds: Mapping[str, float],
    check_version: Callable[[str], None],
) -> Experiment:
    """Begin an experiment, and see once more that its versions are there.

    Who deletes versions says so and then looks which are in use; who uses one says so and then looks whether it is
    being deleted: one of the two sees the other.

    Raises:
        InputError: as `check_definition` and `Experiments.start`; or a version was deleted this very moment.

    """
    check_definition(definition, kinds, check_version)
    made = experiments.start(definition)
    try:
        for variant in definition.variants:
            if variant.settings.version is not None:
                check_version(variant.settings.version)
    except InputError:
        experiments.stop(made.name)
        raise
    return made


def no_versions(version: str) -> None:
    """For a service with nothing but the version in service.

    Raises:
        InputError: always.

    """
    raise InputError(f"version '{version}' cannot be tried: this service has no other versions.")


def check_version(place: Place, version: str) -> None:
    """See that a published version is there and whole, and nobody is about to delete it.

    Raises:
        InputError: it is not.

    """
    try:
        check_known(place, place.pointer(), version)
        place.check(version)
    except (ArtefactError, InputError, OSError) as e:
        raise InputError(
            f"version '{version}' cannot be tried: {e} Published here: {', '.join(sorted(place.names()))}."
        ) from e
