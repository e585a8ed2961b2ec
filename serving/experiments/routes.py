"""Routes for who runs experiments."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from serving.answering import Current, in_service
from serving.bodies import Strict
from serving.experiments.checking import begin, no_versions
from serving.experiments.definition import Definition, Name, Traffic
from serving.experiments.participation import Participation
from serving.experiments.report import Report, make_report
from serving.experiments.versions import OtherVersions
from serving.problems import PROBLEMS
from serving.store.experiments import Experiment, Experiments

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: PROBLEMS[422]}


class StartBody(Definition):
    """An experiment to begin."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "more-variety",
                    "variants": [{"name": "control"}, {"name": "various", "settings": {"diversity": 0.3}}],
                    "metrics": [
                        {"name": "buyers", "measure": "users", "event": "purchase", "within_hours": 72}
                    ],
                }
            ]
        }
    )


class StopBody(Strict):
    """How an experiment ends."""

    winner: Name | None = Field(None, description="the variant that is to stay; absent: none")


class TrafficBody(Strict):
    """How many users an experiment has."""

    traffic: Traffic = Field(description="share of all users")


class ExperimentAnswer(BaseModel):
    """An experiment as it stands."""

    name: str
    definition: Definition = Field(description="as begun")
    traffic: float = Field(description="share of all users that are in it while it runs")
    started_at: float
    stopped_at: float | None = Field(description="null: it runs")
    winner: str | None
    problem: str = Field(description="why it takes no part in the answers of this replica; empty: it does")


class ExperimentsAnswer(BaseModel):
    """All experiments, the newest first."""

    experiments: list[ExperimentAnswer]


def add_experiments(
    router: APIRouter,
    experiments: Experiments,
    current: Current,
    participation: Participation,
    others: OtherVersions | None,
) -> None:
    """`/experiments`."""

    def answer(found: Experiment) -> ExperimentAnswer:
        return ExperimentAnswer(
            name=found.name,
            definition=found.definition,
            traffic=found.traffic,
            started_at=found.started_at,
            stopped_at=found.stopped_at,
            winner=found.winner,
            problem=participation.why_not(found) if found.stopped_at is None else "",
        )

    @router.get("/experiments", response_model=ExperimentsAnswer)
    async def list_experiments() -> ExperimentsAnswer:
        """All of them, the newest first."""
        found = await run_in_threadpool(experiments.all)
        return ExperimentsAnswer(experiments=[answer(experiment) for experiment in found])

    @router.post("/experiments", response_model=ExperimentAnswer)
    async def start_experiment(body: StartBody) -> ExperimentAnswer:
        """Begin one. Users who are in it are answered by a variant, always the same, from within seconds."""
        kinds = in_service(current).config.data.event_weights
        check_version = no_versions if others is None else others.check
        definition = Definition.model_validate(body.model_dump())
        found = await run_in_threadpool(begin, experiments, definition, kinds, check_version)
        participation.look_again()
        return answer(found)

    @router.get("/experiments/{name}", response_model=Report, responses=_UNKNOWN)
    async def report(name: Name) -> Report:
        """What came of it so far. Look as often as you like: the always-valid intervals allow it."""
        return await run_in_threadpool(make_report, experiments, name)

    @router.put("/experiments/{name}/traffic", response_model=ExperimentAnswer, responses=_UNKNOWN)
    async def set_traffic(name: Name, body: TrafficBody) -> ExperimentAnswer:
        """Let it have more or fewer users; who stays in it keeps their variant."""
        found = await run_in_threadpool(experiments.set_traffic, name, body.traffic)
        participation.look_again()
        return answer(found)

    @router.post("/experiments/{name}/stop", response_model=ExperimentAnswer, responses=_UNKNOWN)
    async def stop(name: Name, body: StopBody) -> ExperimentAnswer:
        """End it, everybody has the control from within seconds; or name the winner of one that was ended without."""
        found = await run_in_threadpool(experiments.stop, name, body.winner)
        participation.look_again()
        return answer(found)
