"""A worker tells the GPUs it sees, never invents a figure, and refuses to run on the wrong one."""

import threading

import pynvml
import pytest

from msp_common.contracts.gpus import GpuReport
from msp_model_service.gpus.loss import RECREATE
from msp_model_service.gpus.monitor import STALE_AFTER_S, GpuMonitor
from msp_model_service.gpus.nvml import NvmlReader
from msp_model_service.gpus.pinning import pinning_problem, visible
from support.worker_fakes import FixedGpus, gpu
from support.worker_nvml import FakeGpu, FakeNvml

BUS = "it has fallen off the bus: look for Xid in the host's `dmesg`, then reset the host"


def test_every_figure_comes_from_the_driver() -> None:
    report = NvmlReader(FakeNvml(FakeGpu("GPU-a", pids=[7]))).read()
    assert report.gpus is not None
    [seen] = report.gpus
    assert seen.model_dump() == {
        "uuid": "GPU-a",
        "index": 0,
        "name": "NVIDIA H200",
        "memory_total_bytes": 100,
        "memory_used_bytes": 10,
        "utilization_percent": 50,
        "temperature_c": 40,
        "power_w": 250.5,
        "energy_j": 3600.0,
        "throttled_by": [],
        "ecc_errors": 0,
        "xids": [],
        "processes": [{"pid": 7, "memory_used_bytes": None}],
    }


def test_a_figure_that_the_driver_refuses_is_null_and_not_zero() -> None:
    every = {"memory", "utilization", "temperature", "power", "processes", "energy", "throttling", "ecc"}
    report = NvmlReader(FakeNvml(FakeGpu("GPU-a", unsupported=every))).read()
    assert report.gpus is not None
    [seen] = report.gpus
    assert (seen.memory_total_bytes, seen.utilization_percent, seen.temperature_c, seen.power_w) == (
        None,
    ) * 4
    assert (seen.energy_j, seen.throttled_by, seen.ecc_errors) == (None,) * 3
    assert seen.processes == []


def test_no_driver_is_null_with_the_reason_and_is_tried_again() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"))
    nvml.no_driver = True
    reader = NvmlReader(nvml)
    assert reader.read() == GpuReport(
        gpus=None, reason="NVML cannot be used here: NVML Shared Library Not Found"
    )
    nvml.no_driver = False
    assert reader.read().gpus is not None


def test_a_machine_without_gpus_says_so() -> None:
    assert NvmlReader(FakeNvml()).read() == GpuReport(gpus=None, reason="NVML sees no GPU")


def test_a_lost_gpu_is_named_and_the_other_is_still_told() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b"))
    reader = NvmlReader(nvml)
    nvml.gpus[0].lost = True
    report = reader.read()
    assert report.gpus is not None
    assert [g.uuid for g in report.gpus] == ["GPU-b"]
    assert report.reason == "GPU 0: GPU is lost; " + BUS
    nvml.gpus[1].lost = True
    assert reader.read() == GpuReport(reason=f"GPU 0: GPU is lost; {BUS}; GPU 1: GPU is lost; {BUS}")


def test_a_gpu_that_is_slowed_down_says_by_what_and_idleness_is_no_such_reason() -> None:
    idle_hot_and_capped = 0x1 | 0x4 | 0x40
    report = NvmlReader(FakeNvml(FakeGpu("GPU-a", slowed_by=idle_hot_and_capped, ecc_errors=2))).read()
    assert report.gpus is not None
    assert report.gpus[0].throttled_by == ["power_cap", "hardware_thermal"]
    assert report.gpus[0].ecc_errors == 2


def test_the_drivers_xid_errors_are_kept_by_gpu_and_the_oldest_are_dropped() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b"))
    reader = NvmlReader(nvml)
    reader.read()
    nvml.gpus[1].xids = list(range(70, 80))
    for _ in range(2):
        report = reader.read()
        assert report.gpus is not None
        assert [g.xids for g in report.gpus] == [[], list(range(72, 80))]


def test_a_container_that_lost_its_gpu_names_the_remedy() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"))
    reader = NvmlReader(nvml)
    reader.read()
    nvml.fails_with = pynvml.NVML_ERROR_UNKNOWN
    assert reader.read().reason == f"NVML stopped answering: Unknown Error; {RECREATE}"
    nvml.fails_with = None
    assert reader.read().gpus is not None


def test_the_driver_is_opened_once_and_closed_once() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"))
    reader = NvmlReader(nvml)
    reader.read()
    reader.read()
    reader.close()
    reader.close()
    assert nvml.calls == ["init", "shutdown"]


def test_on_this_machine_the_real_binding_answers_without_raising() -> None:
    reader = NvmlReader()
    report = reader.read()
    reader.close()
    assert report.gpus or report.reason


@pytest.mark.parametrize(
    ("setting", "uuids"),
    [
        (None, ["GPU-0000", "GPU-1000"]),
        ("1", ["GPU-1000"]),
        ("1,0", ["GPU-1000", "GPU-0000"]),
        ("GPU-1", ["GPU-1000"]),
        ("0,9,1", ["GPU-0000"]),
        ("-1", []),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(setting: str | None, uuids: list[str]) -> None:
    assert [g.uuid for g in visible([gpu(0), gpu(1)], setting)] == uuids


def test_a_worker_pinned_to_nothing_is_told_what_it_named() -> None:
    report = NvmlReader(FakeNvml(FakeGpu("GPU-a")), cuda_visible_devices="7").read()
    assert report == GpuReport(reason="CUDA_VISIBLE_DEVICES=7 names none of the 1 GPUs NVML sees")


ONE, TWO = GpuReport(gpus=[gpu(0)]), GpuReport(gpus=[gpu(0), gpu(1)])
NONE = GpuReport(reason="no driver")


@pytest.mark.parametrize(
    ("report", "device", "expected", "problem"),
    [
        (ONE, "auto", None, None),
        (ONE, "cuda", "GPU-0000", None),
        (NONE, "auto", None, None),
        (TWO, "cpu", None, None),
        (NONE, "cuda", None, "a GPU is demanded, but none is seen (no driver)"),
        (NONE, "auto", "GPU-0000", "the GPU GPU-0000 is demanded, but none is seen"),
        (ONE, "auto", "GPU-9", "pinned to the GPU GPU-9, but what is seen is 0 NVIDIA Test GPU-0000"),
        (TWO, "auto", None, "2 GPUs are seen (0 NVIDIA Test GPU-0000, 1 NVIDIA Test GPU-1000)"),
        (ONE, "cpu", "GPU-0000", "EXPECTED_GPU_UUID is set, but DEVICE is cpu"),
    ],
)
def test_the_wrong_gpu_is_refused_by_name(
    report: GpuReport, device: str, expected: str | None, problem: str | None
) -> None:
    found = pinning_problem(report, device=device, expected_uuid=expected)
    assert (found is None) if problem is None else (found or "").startswith(problem)


def test_several_gpus_are_welcome_where_the_engine_may_split_the_model() -> None:
    report = GpuReport(gpus=[gpu(0), gpu(1)])
    assert pinning_problem(report, device="cuda", expected_uuid=None) is not None
    assert pinning_problem(report, device="cuda", expected_uuid=None, may_split=True) is None


def test_a_hanging_driver_is_told_as_such_and_not_as_old_figures() -> None:
    now = 100.0
    reader = FixedGpus(ONE)
    monitor = GpuMonitor(reader, clock=lambda: now, read_every_s=1000)
    monitor.start()
    assert monitor.wait_first(10) == ONE
    now += STALE_AFTER_S + 1
    assert monitor.latest() == GpuReport(reason="NVML has not answered for 16 s")
    monitor.stop()
    assert reader.closed.wait(10)


def test_a_fault_in_reading_is_told_and_reading_goes_on() -> None:
    class Faulty(FixedGpus):
        reads = 0

        def read(self) -> GpuReport:
            self.reads += 1
            if self.reads == 1:
                raise OSError("odd library")
            again.set()
            return super().read()

    again = threading.Event()
    monitor = GpuMonitor(Faulty(ONE), read_every_s=0.01)
    monitor.start()
    assert again.wait(10)
    monitor.stop()


def test_until_the_first_answer_nothing_is_claimed() -> None:
    release = threading.Event()

    class Slow(FixedGpus):
        def read(self) -> GpuReport:
            release.wait(10)
            return super().read()

    monitor = GpuMonitor(Slow(ONE))
    monitor.start()
    assert monitor.wait_first(0) == GpuReport(reason="not read yet")
    release.set()
    assert monitor.wait_first(10) == ONE
    monitor.stop()
