"""/admin/warm and /admin/jobs: long work is begun here and looked at here."""

from typing import Any

from aiohttp import web

from proxy.audit import Audit
from proxy.canonical import Limits
from proxy.errors import RequestError
from proxy.handlers.admin_access import failure
from proxy.handlers.admin_request import (
    instant,
    limit_of,
    questions_of,
    read_asked,
    respond,
)
from proxy.jobs import Job, Jobs
from proxy.warmup import Warmup

MOST_QUERIES = 5000


class AdminJobs:
    def __init__(self, warmup: Warmup, jobs: Jobs, audit: Audit, limits: Limits) -> None:
        self._warmup = warmup
        self._jobs = jobs
        self._audit = audit
        self._limits = limits

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/warm", self._warm),
            web.get("/jobs", self._list),
            web.get("/jobs/{id}", self._one),
        ]

    async def _warm(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"queries"})
        job = self._begin(asked.fields.get("queries", "all"))
        self._audit.note(
            "warm",
            author=asked.author,
            reason=asked.reason,
            after={"job_id": job.id, "queries": job.about},
        )
        return respond({"job_id": job.id}, status=202)

    def _begin(self, wanted: object) -> Job:
        match wanted:
            case "usual" | "popular" | "all":
                return self._warmup.ask(wanted)
            case list() if 0 < len(wanted) <= MOST_QUERIES:
                return self._warmup.ask_for(
                    [query for raw in wanted for query in questions_of(raw, self._limits)]
                )
        raise RequestError(
            "Invalid queries field. Must be usual, popular, all or a list of"
            f" 1 to {MOST_QUERIES} objects of parameters"
        )

    async def _list(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=1000)
        return respond({"jobs": [job_as_json(job) for job in self._jobs.latest(limit)]})

    async def _one(self, request: web.Request) -> web.Response:
        job = self._jobs.get(request.match_info["id"])
        if job is None:
            return failure(404, "no such job: it never was, or is long over")
        return respond(job_as_json(job))


def job_as_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "about": job.about,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "errors": job.errors,
        "note": job.note,
        "started_at": instant(job.started_at),
        "finished_at": instant(job.finished_at),
    }
