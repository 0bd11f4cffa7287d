"""What Prometheus is told of the GPUs."""

from msp_common.contracts.gpus import Gpu, GpuReport
from msp_service_registry.metrics import Metrics
from msp_service_registry.workers import WorkerTable
from support.service_registry_fakes import FakeClock, gpu, lease


def metrics_of(*gpus: Gpu, workers: int = 1) -> Metrics:
    clock = FakeClock()
    table = WorkerTable(clock, remove_after_s=100)
    for number in range(workers):
        url = f"http://llm-{number}:8000"
        table.heartbeat(f"llm-{number}", lease(url=url, gpu=GpuReport(gpus=list(gpus))))
    return Metrics(table, clock)


OF_GPU = {"host": "alpha", "uuid": "GPU-a", "gpu": "0", "name": "NVIDIA L4"}


def test_a_gpu_that_two_workers_share_is_told_once_with_both_of_them() -> None:
    told = metrics_of(gpu("GPU-a", used=7), workers=2).registry
    assert told.get_sample_value("msp_gpu_memory_used_bytes", OF_GPU) == 7
    for worker in ("llm-0", "llm-1"):
        on = {"host": "alpha", "uuid": "GPU-a", "worker": worker, "model": "samples/chat"}
        assert told.get_sample_value("msp_gpu_worker_info", on) == 1


def test_energy_is_a_counter_and_what_slows_a_gpu_down_is_named() -> None:
    hot = gpu("GPU-a").model_copy(update={"energy_j": 3600.0, "throttled_by": ["thermal"], "xids": [79]})
    told = metrics_of(hot).registry
    assert told.get_sample_value("msp_gpu_energy_joules_total", OF_GPU) == 3600
    assert told.get_sample_value("msp_gpu_throttled", {**OF_GPU, "by": "thermal"}) == 1
    assert told.get_sample_value("msp_gpu_xid_errors", OF_GPU) == 1


def test_a_figure_that_is_not_known_has_no_sample() -> None:
    told = metrics_of(gpu("GPU-a", used=None)).registry
    assert told.get_sample_value("msp_gpu_memory_used_bytes", OF_GPU) is None
    assert told.get_sample_value("msp_gpu_power_watts", OF_GPU) is None
    assert told.get_sample_value("msp_gpu_energy_joules_total", OF_GPU) is None
