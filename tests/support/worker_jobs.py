"""The registry's jobs as a worker that asks for downloads meets them."""

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute

from msp_common.contracts.jobs import DownloadRequest, Job, JobError, JobState


class FakeDownloads:
    """Routes for downloads, and the story that their jobs tell, one chapter for each look."""

    def __init__(self, app: FastAPI) -> None:
        self.story: list[Job | int] = []
        """What each look at the job brings: the job, or a status without one. The last one goes on."""
        self.refuse_with: tuple[int, str] | None = None
        """Status, and code of the error."""
        self.asked: list[tuple[str, DownloadRequest]] = []
        self.authorizations: list[str | None] = []
        # Before the routes that take any name.
        app.router.routes[:0] = [
            APIRoute("/models/{name:path}/download", self._ask, methods=["POST"], response_model=None),
            APIRoute("/jobs/{job_id}", self._look, methods=["GET"], response_model=None),
        ]

    async def _ask(self, name: str, request: Request) -> Response:
        self.authorizations.append(request.headers.get("authorization"))
        self.asked.append((name, DownloadRequest.model_validate_json(await request.body())))
        if self.refuse_with is not None:
            status, code = self.refuse_with
            body = f'{{"error": {{"message": "no", "type": "x", "param": null, "code": "{code}"}}}}'
            return Response(body, status_code=status, media_type="application/json")
        return Response(job().model_dump_json(), status_code=202, media_type="application/json")

    async def _look(self, job_id: str) -> Response:
        chapter = self.story[0]
        del self.story[: len(self.story) > 1]
        if isinstance(chapter, int):
            return Response(status_code=chapter)
        return Response(chapter.model_dump_json(), media_type="application/json")


def job(
    state: JobState = JobState.REQUESTED,
    done: int = 0,
    total: int | None = None,
    error: JobError | None = None,
) -> Job:
    return Job(
        id="j1",
        repo_id="org/model",
        request=DownloadRequest(),
        state=state,
        bytes_done=done,
        bytes_total=total,
        error=error,
        created_at=0,
        updated_at=0,
    )


def failed(code: str, message: str, *, retryable: bool) -> Job:
    return job(JobState.FAILED, error=JobError(code=code, message=message, retryable=retryable))
