"""The pages: rendered here, brought up to date by a script that asks for them again when something has changed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from medley.errors import MedleyError, ObjectMissing
from medley.records.base import BatchName, JobId
from medley_producer.dashboard import exporter
from medley_producer.dashboard.actions import COOKIE, STAYS_S, Gate
from medley_producer.dashboard.api import Shown, address, chosen
from medley_producer.dashboard.farm import Farm
from medley_producer.dashboard.rendering import render
from medley_producer.dashboard.views import Action, JobState
from medley_producer.dashboard.watcher import Watcher

router = APIRouter(include_in_schema=False)

EVENTS_EVERY_S = 1.0
"""A change is told within this time; what is asked for anew then is a page of a browser that is open."""

LONGEST_S = 120.0
"""After which a watcher hangs; four times as long as it waits, and longer than a Redis is waited for."""

MOST_BATCHES = 200
"""On one page: more are found by name."""

_FORM_BYTES = 4_096


def page(request: Request, name: str, status: int = 200, back: str | None = None, **values: Any) -> HTMLResponse:
    """A page; ``back`` is where a browser goes that is let in on it: to the page itself, if it can be asked for."""
    gate: Gate = request.app.state.gate
    farm: Farm = request.app.state.farm
    cookie = request.cookies.get(COOKIE, "")
    may = gate.admits(cookie)
    query = f"?{request.url.query}" if request.url.query else ""
    return HTMLResponse(
        render(
            name,
            version=getattr(request.state, "version", farm.watcher.version),
            request_path=request.url.path,
            back=back or request.url.path + query,
            acted=request.method == "POST",
            problem=farm.watcher.view.problem,
            allows_control=gate.is_open,
            may_control=may,
            form_key=gate.form_key(cookie) if may else "",
            **values,
        ),
        status,
        headers={"Cache-Control": "no-store"},
    )


@router.get("/")
def batches(
    request: Request,
    farm: Shown,
    text: Annotated[str, Query(alias="q", max_length=200)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """All batches."""
    view = farm.watcher.view
    found = chosen(view.batches, text, state)
    return page(
        request, "batches", view=view, batches=found[:MOST_BATCHES], more=len(found[MOST_BATCHES:]), text=text,
        state=state,
    )  # fmt: skip


@router.get("/batches/{name}")
def batch(
    request: Request,
    farm: Shown,
    name: BatchName,
    text: Annotated[str, Query(alias="q", max_length=200)] = "",
    state: JobState | Literal[""] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """One batch, and a page of its jobs."""
    view = farm.view(name)
    asked = {"q": text, "state": state}
    return page(
        request,
        "batch",
        batch=view,
        options=farm.batch(name).options.model_dump(mode="json", exclude_defaults=True),
        jobs=farm.jobs(name, text, state or None, number),
        failures=farm.failures(name) if view.failed or view.skipped else None,
        pieces=farm.pieces(view),
        painting=farm.paintings(name),
        text=text,
        state=state,
        query=lambda n: urlencode({name: value for name, value in asked.items() if value} | {"page": n}),
    )


@router.get("/batches/{name}/jobs/{job}")
def job(request: Request, farm: Shown, name: BatchName, job: JobId) -> Response:
    """One job."""
    return page(request, "job", batch=farm.view(name), job=farm.job(name, job))


@router.get("/workers")
def workers(request: Request, farm: Shown) -> Response:
    """Workers and queues."""
    return page(request, "workers", view=farm.watcher.view)


@router.get("/api")
def api(request: Request) -> Response:
    """What programs can ask for."""
    return page(request, "api", description=request.app.openapi())


@router.get("/storage/{key:path}")
def stored(request: Request, key: str) -> Response:
    """An object of storage that is to be looked at."""
    response: Response = request.app.state.objects.response(key)
    return response


@router.get("/events")
async def events(request: Request) -> Response:
    """Tells, as server-sent events, that something has changed."""
    farm: Farm = request.app.state.farm

    async def each() -> AsyncIterator[str]:
        version = ""
        while not request.app.state.is_ending():
            farm.watcher.watched()
            if farm.watcher.version != version:
                version = farm.watcher.version
                yield f"event: changed\ndata: {version}\n\n"
            else:
                yield ": still here\n\n"
            await asyncio.sleep(EVENTS_EVERY_S)

    return StreamingResponse(each(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The farm's numbers for Prometheus."""
    farm: Farm = request.app.state.farm
    return Response(exporter.page(farm.watcher.view), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Whether the farm can be looked at, for whoever keeps this program running."""
    watcher: Watcher = request.app.state.farm.watcher
    problem = watcher.view.problem
    if watcher.age_s > LONGEST_S:
        problem = f"The farm was last looked at {watcher.age_s:.0f} s ago. {problem}"
    return Response(problem or "ok", 503 if problem else 200, media_type="text/plain; charset=utf-8")


@router.post("/session")
async def begin_session(request: Request) -> Response:
    """Let a browser in that sends the token."""
    gate: Gate = request.app.state.gate
    form = await _form(request)
    if not gate.knows(form.get("token", ""), address(request)):
        why = "That is not the token that this dashboard was started with."
        return page(request, "refused", 401, back=_ours(form.get("path", "")), why=why)
    response = _back(form)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, gate.cookie(), max_age=STAYS_S, httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/session/end")
async def end_session(request: Request) -> Response:
    """Let it in no more."""
    response = _back(await _form(request))
    response.delete_cookie(COOKIE)
    return response


@router.post("/batches/{name}/{action}")
async def act(request: Request, name: BatchName, action: Action) -> Response:
    """Do what a button says."""
    farm: Farm = request.app.state.farm
    gate: Gate = request.app.state.gate
    form, back = await _form(request), f"/batches/{quote(name)}"
    if not gate.admits_form(request.cookies.get(COOKIE, ""), form.get("key", ""), address(request)):
        why = "This page may not decide any more: give it the token, and try again."
        return page(request, "refused", 403, back=back, why=why)
    try:
        await run_in_threadpool(farm.decide, name, action, f"a browser, from {address(request)}")
    except ObjectMissing:
        raise
    except MedleyError as error:
        return page(request, "refused", 409, back=back, why=str(error))
    return RedirectResponse(back, 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; nothing, if it has more to say than ours do."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            return {}
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _back(form: dict[str, str]) -> RedirectResponse:
    """To the page that the form was on."""
    return RedirectResponse(_ours(form.get("path", "")), 303)


def _ours(path: str) -> str:
    """A path that is one of ours, and no other site's."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
