"""Routes for the published versions: which there are, how good they are, which one is in service."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field, JsonValue
from starlette.concurrency import run_in_threadpool

from pipelines.core.errors import ArtefactError, BusyError, InputError
from pipelines.core.registry.registry import Registry, Version
from serving.problems import PROBLEMS


class VersionAnswer(BaseModel):
    """One published version."""

    version: str
    is_current: bool = Field(description="whether it is in service; each replica follows within seconds")
    problem: str | None = Field(
        description="why it cannot be put into service, as far as sizes of files tell"
    )
    created_at: str | None
    model: str | None = Field(description="full: fitted on every row; train: the one that was measured")
    encoder: str | None
    has_report: bool
    metrics: dict[str, JsonValue] = Field(description="see docs/metrics.md")


class VersionsAnswer(BaseModel):
    """All of them, the newest first."""

    versions: list[VersionAnswer]


class Changed(BaseModel):
    """What is in service now."""

    version: str
    former_version: str | None


def add_versions(router: APIRouter, registry: Registry) -> None:
    """`/admin/versions`."""
    conflicts: dict[int | str, dict[str, object]] = {404: PROBLEMS[422], 409: PROBLEMS[422]}

    @router.get("/admin/versions", response_model=VersionsAnswer)
    async def list_versions() -> VersionsAnswer:
        """Every published version with its figures."""
        found = await run_in_threadpool(registry.versions)
        return VersionsAnswer(versions=[_answer(version) for version in found])

    @router.post("/admin/versions/rollback", response_model=Changed, responses=conflicts)
    async def rollback() -> Changed:
        """Put what was in service before the current version into service again."""
        return await run_in_threadpool(_roll_back, registry)

    @router.post("/admin/versions/{version}/promote", response_model=Changed, responses=conflicts)
    async def promote(version: str) -> Changed:
        """Put a version into service, once every one of its files has been read and found whole."""
        return await run_in_threadpool(_promote, registry, version)

    @router.get("/admin/versions/{version}/report", response_class=Response, responses=conflicts)
    async def report(version: str) -> Response:
        """The page of a version's evaluation."""
        return await run_in_threadpool(_report, registry, version)


def _answer(version: Version) -> VersionAnswer:
    manifest = version.manifest
    encoder = manifest.get("encoder")
    return VersionAnswer(
        version=version.name,
        is_current=version.is_current,
        problem=version.problem,
        created_at=manifest.get("created_at"),
        model=manifest.get("model"),
        encoder=encoder.get("model") if isinstance(encoder, dict) else None,
        has_report=version.has_report,
        metrics=version.metrics,
    )


def _promote(registry: Registry, version: str) -> Changed:
    try:
        return Changed(version=version, former_version=registry.promote(version))
    except InputError as e:
        raise HTTPException(404, str(e)) from e
    except (ArtefactError, BusyError) as e:
        raise HTTPException(409, str(e)) from e


def _roll_back(registry: Registry) -> Changed:
    try:
        version, former = registry.rollback()
    except (ArtefactError, BusyError) as e:
        raise HTTPException(409, str(e)) from e
    return Changed(version=version, former_version=former)


def _report(registry: Registry, version: str) -> Response:
    try:
        page = registry.report(version)
    except InputError as e:
        raise HTTPException(404, str(e)) from e
    if page is None:
        raise HTTPException(
            404, f"no report lies with version {version[:80]!r}; it was made by an older Kindling"
        )
    # to be kept and opened as a file: it has styles and scripts of its own, which have no business on this origin
    name = f"kindling-{version}.html"
    return Response(
        page, media_type="text/html", headers={"content-disposition": f'attachment; filename="{name}"'}
    )
