"""Merging the workers' GPU reports: by host and UUID, nothing invented."""

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.workers import Verdict, Worker
from msp_service_registry.gpus import merge
from support.service_registry_fakes import gpu, lease

NOW = 1000.0


def worker(id: str, report: GpuReport, *, host: str = "alpha", at: float = NOW) -> Worker:
    return Worker(id=id, verdict=Verdict.READY, heartbeat_at=at, lease=lease(host=host, gpu=report))


def test_one_gpu_seen_by_two_workers_is_one_gpu_with_the_newer_figures() -> None:
    stats = merge(
        [
            worker("a", GpuReport(gpus=[gpu("GPU-1", used=5)]), at=NOW - 2),
            worker("b", GpuReport(gpus=[gpu("GPU-1", used=None)]), at=NOW - 1),
        ],
        NOW,
    )
    assert stats.gpus is not None
    (only,) = stats.gpus
    assert only.worker_ids == ["a", "b"]
    assert (only.memory_used_bytes, only.reported_at) == (None, NOW - 1)


def test_the_same_uuid_on_two_hosts_is_two_gpus_in_a_stable_order() -> None:
    stats = merge(
        [
            worker("b", GpuReport(gpus=[gpu("GPU-2", index=1), gpu("GPU-1")]), host="beta"),
            worker("a", GpuReport(gpus=[gpu("GPU-1")]), host="alpha"),
        ],
        NOW,
    )
    assert stats.gpus is not None
    assert [(g.host, g.uuid) for g in stats.gpus] == [
        ("alpha", "GPU-1"),
        ("beta", "GPU-1"),
        ("beta", "GPU-2"),
    ]


def test_without_a_gpu_the_answer_is_null_and_every_worker_says_why() -> None:
    stats = merge(
        [worker("a", GpuReport(gpus=None, reason="NVML: no driver")), worker("b", GpuReport(gpus=[]))], NOW
    )
    assert stats.gpus is None
    assert stats.reason == "no worker reports a GPU"
    assert [(w.worker_id, w.reason) for w in stats.without_gpu] == [
        ("a", "NVML: no driver"),
        ("b", "it sees no GPU"),
    ]


def test_nobody_registered_is_said_as_such() -> None:
    assert merge([], NOW).reason == "no worker is registered"


def test_figures_of_a_worker_that_is_gone_are_not_shown_as_present() -> None:
    stats = merge([worker("a", GpuReport(gpus=[gpu("GPU-1")]), at=NOW - 11)], NOW)
    assert stats.gpus is None
    assert stats.without_gpu[0].reason == "its last report is older than 10 s"
