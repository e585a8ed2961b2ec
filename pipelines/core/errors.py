"""Errors a user can act on: each message names the value, what was expected and what to do."""

from __future__ import annotations

from typing import ClassVar


class KindlingError(Exception):
    """Base of every expected failure; `exit_code` is the status the command line ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(KindlingError):
    """The configuration cannot be used as written."""

    exit_code = 2


class InputError(KindlingError):
    """The caller's tables or request cannot be used as given."""

    exit_code = 3


class UnknownError(InputError):
    """What the caller names is not there."""


class BusyError(KindlingError):
    """Another build holds this output directory, or somebody else changes what is in service."""

    exit_code = 4


class ReleaseRefused(KindlingError):
    """A rebuilt version is not fit to take the place of the one in service, which stays."""

    exit_code = 7


class ArtefactError(KindlingError):
    """Something on storage is absent, incomplete or not what its manifest says."""

    exit_code = 5
