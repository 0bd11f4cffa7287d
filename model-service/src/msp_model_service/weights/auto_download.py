"""Getting a model into the registry that lacks it: ask once, and show the job's progress as one's own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from msp_common.contracts.jobs import Job, JobState
from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.fetch_errors import NotYet
from msp_model_service.weights.registry_jobs import AskRefused, DownloadJobs

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 600.0
_DOING = {
    JobState.REQUESTED: "has queued",
    JobState.RESOLVING: "looks up",
    JobState.DOWNLOADING: "downloads",
    JobState.VERIFYING: "verifies",
    JobState.PUBLISHING: "publishes",
}


class Bringer(Protocol):
    """Gets models into the registry. Calls block."""

    def bring(
        self,
        model_id: str,
        revision: str,
        on_progress: Callable[[str, int, int], None],
        stop: threading.Event,
    ) -> None:
        """Until the registry holds it. Raises NotYet (with the reason and what to do) or Stopped."""


@dataclass(frozen=True)
class _Ended:
    """How the last attempt ended."""

    reason: str
    again_at: float | None
    """When to ask again, by the clock; None: not before the worker is started again."""


class AutoDownload:
    """Bringer through the registry's jobs, for one model. It remembers what it asked for from call to call.

    What may end better another time is asked for again after a pause of a minute, which doubles up to ten.
    """

    def __init__(
        self,
        jobs: DownloadJobs,
        clock: Callable[[], float] = time.monotonic,
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._look_every_s = look_every_s
        self._job_id: str | None = None
        self._ended: _Ended | None = None
        self._pauses = 0

    def bring(
        self,
        model_id: str,
        revision: str,
        on_progress: Callable[[str, int, int], None],
        stop: threading.Event,
    ) -> None:
        """See Bringer."""
        ended = self._ended
        if ended is not None and (ended.again_at is None or self._clock() < ended.again_at):
            raise NotYet(ended.reason)
        job_id = self._job_id or self._ask(model_id, revision)
        self._follow(job_id, model_id, on_progress, stop)

    def _ask(self, model_id: str, revision: str) -> str:
        try:
            job = self._jobs.request(model_id, revision)
        except AskRefused as refused:
            self._end(_told(refused, model_id), again=True)
        log.info("asked the registry to download %s at %s: job %s", model_id, revision, job.id)
        self._job_id = job.id
        return job.id

    def _follow(
        self,
        job_id: str,
        model_id: str,
        on_progress: Callable[[str, int, int], None],
        stop: threading.Event,
    ) -> None:
        while True:
            job = self._jobs.job(job_id)
            if job is None:
                self._end(f"the registry has forgotten its download of {model_id}, job {job_id}", again=True)
            elif job.state is JobState.SUCCEEDED:
                self._job_id = None
                # Were it missing again at once, somebody has deleted it: that is not to be undone.
                self._ended = _Ended(
                    f"the registry has downloaded {model_id}, but does not hold it any more; bring it with "
                    f"`msp models pull {model_id}`, or start this worker again",
                    again_at=None,
                )
                return
            elif job.state is JobState.CANCELLED:
                self._end(
                    f"the registry's download of {model_id} was cancelled, job {job.id}; bring it with "
                    f"`msp models pull {model_id}`, or start this worker again",
                    again=False,
                )
            elif job.state is JobState.FAILED:
                self._end(_why(job), again=job.error is None or job.error.retryable)
            else:
                on_progress(sentence(job), job.bytes_done, job.bytes_total or 0)
            if stop.wait(self._look_every_s):
                raise Stopped

    def _end(self, reason: str, *, again: bool) -> NoReturn:
        """Remember it, and raise NotYet."""
        self._job_id = None
        again_at = None
        if again:
            pause_s = min(_PAUSE_S * 2**self._pauses, _LONGEST_PAUSE_S)
            again_at = self._clock() + pause_s
            self._pauses += 1
        self._ended = _Ended(reason, again_at)
        raise NotYet(reason)


def sentence(job: Job) -> str:
    """What the job does, with its bytes."""
    said = f"the registry {_DOING.get(job.state, 'handles')} {job.repo_id}"
    if job.bytes_total and job.state is JobState.DOWNLOADING:
        said += f": {job.bytes_done / 1e9:.1f} of {job.bytes_total / 1e9:.1f} GB"
    return said


def _why(job: Job) -> str:
    reason = f"{job.error.code}: {job.error.message}" if job.error else "it does not say why"
    return f"the registry could not download {job.repo_id} (job {job.id}): {reason}"


def _told(refused: AskRefused, model_id: str) -> str:
    if refused.code == "registry_offline":
        return (
            f"the registry does not hold {model_id} and is offline; import it there with "
            f"`msp models import {model_id} FOLDER_OR_TAR`"
        )
    if refused.status in (401, 403):
        return (
            f"the registry does not hold {model_id}, and this worker may not ask for it: give worker and "
            f"registry the same CLUSTER_TOKEN, or bring it with `msp models pull {model_id}` "
            f"(the registry says: {refused})"
        )
    return f"the registry does not hold {model_id} and will not download it: {refused}"
