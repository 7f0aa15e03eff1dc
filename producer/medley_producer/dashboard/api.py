"""The JSON of everything, below ``/api/``; it is described at ``/openapi.json``, and the page ``/api`` lists it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request

from medley.records.base import BatchName, JobId
from medley_producer.dashboard.actions import Gate
from medley_producer.dashboard.farm import Farm
from medley_producer.dashboard.views import (
    Action,
    BatchView,
    Decided,
    FailuresView,
    FarmView,
    JobDetail,
    JobState,
    JobsView,
    Problem,
    QueueView,
    WorkerView,
)

_Name = Annotated[BatchName, Path(description="of the batch")]
_Job = Annotated[JobId, Path(description="the job's id")]

_ABSENT: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is none of this name."}}
_AWAY: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "Redis or storage does not serve us."}}
_NOT_ALLOWED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    403: {"model": Problem, "description": "This dashboard was started without --allow-control."},
    409: {"model": Problem, "description": "The batch is in no state for that."},
}

_INVALID: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "What was asked for has no sense."}}

router = APIRouter(prefix="/api", responses=_AWAY | _INVALID)


def farm_of(request: Request) -> Farm:
    """What the application shows; it is watched from now on."""
    farm: Farm = request.app.state.farm
    request.state.version = farm.watcher.version  # before anything is read, as it may change meanwhile
    farm.watcher.watched()
    return farm


Shown = Annotated[Farm, Depends(farm_of)]


@router.get("/farm")
def farm(farm: Shown) -> FarmView:
    """Everything at a glance."""
    return farm.watcher.view


@router.get("/batches")
def batches(
    farm: Shown,
    text: Annotated[str, Query(alias="q", description="that the name contains", max_length=200)] = "",
    state: Annotated[str, Query(description="that they are in", max_length=20)] = "",
) -> list[BatchView]:
    """Batches, the newest first."""
    return chosen(farm.watcher.view.batches, text, state)


def chosen(batches: list[BatchView], text: str, state: str) -> list[BatchView]:
    """Those of these batches whose names have a text, and that are in a state."""
    return [b for b in batches if text.lower() in b.name.lower() and state in ("", b.state)]


@router.get("/batches/{name}", responses=_ABSENT)
def batch(farm: Shown, name: _Name) -> BatchView:
    """One batch."""
    return farm.view(name)


@router.get("/batches/{name}/jobs", responses=_ABSENT)
def jobs(
    farm: Shown,
    name: _Name,
    text: Annotated[str, Query(alias="q", description="that the pictures' names contain", max_length=200)] = "",
    state: Annotated[JobState | None, Query(description="that they are in")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> JobsView:
    """A page of a batch's jobs, in the manifest's order."""
    return farm.jobs(name, text, state, page)


@router.get("/batches/{name}/jobs/{job}", responses=_ABSENT)
def job(farm: Shown, name: _Name, job: _Job) -> JobDetail:
    """All about one job."""
    return farm.job(name, job)


@router.get("/batches/{name}/failures", responses=_ABSENT)
def failures(farm: Shown, name: _Name) -> FailuresView:
    """Why jobs of a batch failed, and which files were skipped."""
    return farm.failures(name)


@router.get("/workers")
def workers(farm: Shown) -> list[WorkerView]:
    """The painting processes that are up."""
    return farm.watcher.view.workers


@router.get("/queues")
def queues(farm: Shown) -> list[QueueView]:
    """What waits, and what workers hold."""
    return farm.watcher.view.queues


@router.post("/batches/{name}/actions/{action}", responses=_ABSENT | _NOT_ALLOWED)
def act(
    request: Request,
    farm: Shown,
    name: _Name,
    action: Action,
    authorization: Annotated[str, Header(description="Bearer, and the token")] = "",
) -> Decided:
    """Pause, resume, cancel or retry a batch."""
    gate: Gate = request.app.state.gate
    if not gate.is_open:
        raise HTTPException(403, "This dashboard only shows; start it with --allow-control and a token.")
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not gate.knows(token.strip(), address(request)):
        raise HTTPException(
            401, "Send the dashboard's token: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
        )
    return farm.decide(name, action, f"the API, from {address(request)}")


def address(request: Request) -> str:
    """Whoever asks."""
    return request.client.host if request.client else "unknown"
