"""`python -m msp_model_service`: one worker, told what to be by the environment."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI

from msp_common.contracts.workers import ServedModel
from msp_common.http_app import platform_version
from msp_common.serving import listen_or_exit, load_or_exit, serve
from msp_common.settings import SHARED_NAMES
from msp_model_service.app import create_app
from msp_model_service.cpu_quota import affinity, cpu_quota, engine_threads, usable_cpus
from msp_model_service.engines.catalogue import engine_maker, external_engine_maker
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from msp_model_service.gpus.monitor import GpuMonitor
from msp_model_service.gpus.nvml import NvmlReader
from msp_model_service.lease import HttpLeaseOffice
from msp_model_service.metrics import WorkerMetrics
from msp_model_service.settings import WorkerSettings
from msp_model_service.stopping import drain_before_exit
from msp_model_service.weights.auto_download import AutoDownload, Bringer
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.no_weights import NoWeights
from msp_model_service.weights.registry_jobs import RegistryJobs
from msp_model_service.weights.weights import CachedWeights, Weights
from msp_model_service.worker import Parts, Plan, Worker

EXIT_ENGINE_BROKEN = 3
"""Exit code after a loaded engine broke beyond repair; a restart may help."""

_SETTLE_S = 0.3
"""How long the draining lease may take from the service registry to the gateways."""

# For libraries, which read them at import: nothing looks for a hub, reports home, or forks threads.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # CUDA_VISIBLE_DEVICES then counts GPUs as NVML does.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}

log = logging.getLogger(__name__)


class _Broken:
    """Remembers that the engine broke, and ends the process through the ordinary way."""

    happened = False

    def __call__(self) -> None:
        self.happened = True
        log.error("the engine is broken beyond repair: ending with exit code %d", EXIT_ENGINE_BROKEN)
        signal.raise_signal(signal.SIGTERM)


def threads_for(settings: WorkerSettings) -> int:
    """CPU threads for the engine, by the settings and this machine's control group."""
    threads = engine_threads(
        settings.threads, usable_cpus(cpu_quota(), affinity()), settings.workers_per_host
    )
    if settings.threads is not None and threads < settings.threads:
        log.warning("THREADS=%d is above the CPU quota; using %d", settings.threads, threads)
    return threads


def build(settings: WorkerSettings, threads: int, on_broken: Callable[[], None]) -> tuple[FastAPI, Worker]:
    """The application and its worker, with the real collaborators."""
    options = settings.engine_options(threads)
    gpus = GpuMonitor(NvmlReader(cuda_visible_devices=settings.cuda_visible_devices))
    identity = settings.identity()
    log.info(
        "%s: %s as %s with engine %s, %d threads; registering at %s as %s",
        identity.url,
        settings.model_name,
        settings.model_type,
        settings.engine,
        threads,
        settings.service_registry_url,
        identity.worker_id,
    )
    plan = Plan(
        identity=identity,
        model=ServedModel(
            id=settings.model_name,
            type=settings.model_type,
            revision=settings.model_revision,
            aliases=list(settings.model_aliases),
        ),
        device="cpu" if settings.engine == "fake" or settings.engine_url else settings.device,
        version=platform_version(),
        expected_gpu_uuid=settings.expected_gpu_uuid,
        may_split=settings.engine == "openai",
        speaks_wire=settings.engine == "openai",
    )
    parts = Parts(
        make_engine=_engine_maker(settings, options),
        weights=_weights(settings),
        office=HttpLeaseOffice(settings.service_registry_url, settings.cluster_token),
        gpus=gpus,
        metrics=WorkerMetrics(),
        on_broken=on_broken,
    )
    worker = Worker(plan, parts)
    app = create_app(
        worker,
        max_body_bytes=settings.max_body_bytes,
        audio=settings.audio_limits,
        cluster_token=settings.cluster_token,
        gpus=gpus.latest,
        on_started=lambda worker: drain_before_exit(worker.drain, _SETTLE_S),
    )
    return app, worker


def _engine_maker(settings: WorkerSettings, options: EngineOptions) -> Callable[[], Engine]:
    if settings.engine == "openai":
        ours = set(WorkerSettings.variables()) | SHARED_NAMES
        # The one setting that also is a variable of CUDA's own.
        ours -= {"CUDA_VISIBLE_DEVICES"}
        return external_engine_maker(settings.server_plan(), settings.model_type, ours)
    return engine_maker(settings.engine, settings.model_type, options)


def _weights(settings: WorkerSettings) -> Weights:
    if settings.engine_url:
        return NoWeights()
    return CachedWeights(
        RegistrySource(settings.registry_url),
        CacheRoom(Path(settings.model_cache_dir), settings.model_cache_limit_bytes),
        Checker(settings.verify_on_load),
        _bringer(settings),
    )


def _bringer(settings: WorkerSettings) -> Bringer | None:
    if not settings.auto_download:
        return None
    return AutoDownload(RegistryJobs(settings.registry_url, settings.cluster_token))


def main() -> None:
    """Serve until told to stop. Exit codes: 0 stopped, 2 wrong settings or port taken, 3 engine broken."""
    # Before the server has its own handlers, and again after it ended gracefully: a stop is no failure.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    os.environ.update(_ENVIRONMENT)
    settings = load_or_exit(WorkerSettings, "model-service")
    threads = threads_for(settings)
    # Numerical libraries start as many threads as the machine has cores, unless told before their import.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    broken = _Broken()
    app, worker = build(settings, threads, broken)
    code = 0
    try:
        serve(
            app,
            listen_or_exit(settings.worker_host, settings.ports),
            grace_s=settings.worker_grace_s,
        )
    except KeyboardInterrupt:
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    code = EXIT_ENGINE_BROKEN if broken.happened else code
    if worker.loading_in_thread:
        # Native code of a load that runs on would crash in the interpreter's teardown.
        log.info("ending while the model is being loaded")
        logging.shutdown()
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
