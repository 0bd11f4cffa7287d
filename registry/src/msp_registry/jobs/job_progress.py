"""How far one job is: its files, their bytes, its rate. Pure, and cheap: it is told of every chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

from msp_common.contracts.jobs import BadFile, Job, JobFile
from msp_registry.jobs.transfer_rate import TransferRate, eta_s


@dataclass
class _File:
    size_bytes: int
    told_bytes: int = 0
    """What was told of it, less what was taken back; may be more than there is."""
    is_done: bool = False

    @property
    def bytes_done(self) -> int:
        return self.size_bytes if self.is_done else min(max(self.told_bytes, 0), self.size_bytes)


class JobProgress:
    """The counts of one job. Times are those of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._files: dict[str, _File] = {}
        self._in_hand: dict[str, _File] = {}
        self._expected = False
        self._bytes_done = self._bytes_total = self._files_done = 0
        self._bad: dict[str, BadFile] = {}
        self._rate = TransferRate(now)

    def next_stage(self, now: float) -> None:
        """The rate of one stage says nothing of the next."""
        self._rate = TransferRate(now)

    def expect(self, files: Sequence[tuple[str, int]], now: float) -> None:
        """Path and size of all there is to do. Told again, the count begins anew: a second pass."""
        self._files = {path: _File(size) for path, size in files}
        self._in_hand = {}
        self._expected = True
        self._bytes_total = sum(file.size_bytes for file in self._files.values())
        self._bytes_done = self._files_done = 0
        self.next_stage(now)

    def moved(self, path: str, n_bytes: int, now: float) -> None:
        """More bytes of a file, or fewer when some must be done again. Unexpected files do not count."""
        if n_bytes > 0:
            self._rate.moved(now, n_bytes)
        self._add(path, n_bytes)

    def resumed(self, path: str, n_bytes: int) -> None:
        """Bytes of a file that are there already; not in the rate."""
        self._add(path, n_bytes)

    def file_done(self, path: str) -> None:
        """The whole file counts, whatever was told before; not in the rate, for it may not have moved."""
        file = self._files.get(path)
        if file is None or file.is_done:
            return
        before = file.bytes_done
        file.is_done = True
        self._files_done += 1
        self._count(path, file, before)

    def found_bad(self, bad: BadFile) -> None:
        """The last word on each path stands."""
        self._bad[bad.path] = bad

    def told_in(self, job: Job, now: float) -> Job:
        """The job with these counts. The ended one names no files in hand, and no rate."""
        rate = None if job.state.ended else self._rate.bytes_per_s(now)
        in_hand = {} if job.state.ended else self._in_hand
        return job.model_copy(
            update={
                "bytes_done": self._bytes_done,
                "bytes_total": self._bytes_total if self._expected else None,
                "files_done": self._files_done,
                "files_total": len(self._files) if self._expected else None,
                "files": [
                    JobFile(path=path, bytes_done=file.bytes_done, bytes_total=file.size_bytes)
                    for path, file in in_hand.items()
                ],
                "rate_bytes_per_s": rate,
                "eta_s": eta_s(self._bytes_total - self._bytes_done, rate) if self._expected else None,
                "bad_files": list(self._bad.values()),
            }
        )

    def _add(self, path: str, n_bytes: int) -> None:
        file = self._files.get(path)
        if file is None:
            return
        before = file.bytes_done
        if file.is_done and n_bytes < 0:
            file.is_done, file.told_bytes = False, file.size_bytes
            self._files_done -= 1
        file.told_bytes += n_bytes
        self._count(path, file, before)

    def _count(self, path: str, file: _File, before: int) -> None:
        self._bytes_done += file.bytes_done - before
        if file.is_done or not file.bytes_done:
            self._in_hand.pop(path, None)
        else:
            self._in_hand[path] = file
