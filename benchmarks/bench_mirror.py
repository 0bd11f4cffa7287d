"""The mirror beside curl, and the worker's fetch beside huggingface_hub, from the same sources in one run."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from hub_source import COMMIT
from local_registry import mirror_s, registry, source
from processes import free_port, program
from report import Busyness, Report, arguments, publish

MIB = 1 << 20
LINK_BYTES_PER_S = 125_000_000
"""A line of 1 Gbit/s."""

WORKER_FETCH = """
import sys, threading, time
from pathlib import Path
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.weights import CachedWeights
weights = CachedWeights(RegistrySource(sys.argv[1]), CacheRoom(Path(sys.argv[2]), None), Checker("full"))
begun = time.monotonic()
weights.fetch(sys.argv[3], "main", lambda *news: None, threading.Event()).release()
print(time.monotonic() - begun)
"""
SNAPSHOT_DOWNLOAD = """
import sys, time
from huggingface_hub import snapshot_download
begun = time.monotonic()
snapshot_download(sys.argv[2], local_dir=sys.argv[1])
print(time.monotonic() - begun)
"""


def make_model(folder: Path, sizes: list[int]) -> None:
    """Files of random bytes, named as no weights are, so that their content is not looked into."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for number, size in enumerate(sizes):
        with (folder / f"data-{number}.dat").open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))


@contextmanager
def minio(folder: Path) -> Iterator[dict[str, str]]:
    """Settings of a registry over a real MinIO, made ready by our own init job."""
    port = free_port()
    root = {"MINIO_ROOT_USER": "bench-root", "MINIO_ROOT_PASSWORD": "bench-root-secret"}
    store = {
        "MINIO_ENDPOINT": f"http://127.0.0.1:{port}",
        "MINIO_SVC_USER": "bench-registry",
        "MINIO_SVC_PASSWORD": "bench-registry-secret",
    }
    command = [os.environ["MSP_MINIO_BINARY"], "server", str(folder), "--address", f"127.0.0.1:{port}"]
    with program(command, root, f"http://127.0.0.1:{port}/minio/health/live"):
        init = [sys.executable, "-m", "msp_registry.init_store"]
        subprocess.run(init, env=os.environ | root | store, check=True, stderr=subprocess.DEVNULL)
        yield {"REGISTRY_STORE": "s3", **store}


def curl_s(hub: str, model: str, names: list[str], folder: Path) -> float:
    """One curl, one file after the other, onto the same disk."""
    command = ["curl", "-sS", "--fail"]
    for name in names:
        command += ["-o", str(folder / name), f"{hub}/{model}/resolve/{COMMIT}/{name}"]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - begun


def worker_fetch_s(url: str, model: str, folder: Path) -> float:
    """A worker's way from a registry into an empty cache, every hash checked."""
    return timed_child(WORKER_FETCH, {}, url, str(folder), model)


def snapshot_download_s(hub: str, model: str, folder: Path) -> float:
    """huggingface_hub's way over plain HTTP; it compares sizes, not hashes."""
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return timed_child(SNAPSHOT_DOWNLOAD, quiet | {"HF_ENDPOINT": hub}, str(folder), model)


def timed_child(code: str, environment: dict[str, str], *args: str) -> float:
    """The seconds that a Python program measured around its own work, imports excluded."""
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


class Bench:
    """One run of everything in one temporary folder."""

    def __init__(self, folder: Path, report: Report, *, quick: bool) -> None:
        self._folder = folder
        self._report = report
        self._runs = 1 if quick else 3
        sizes = [128, 64] if quick else [512, 256, 128, 128]
        self._bytes = sum(sizes) * MIB
        self._names = [f"data-{n}.dat" for n in range(len(sizes))]
        self._models = folder / "models"
        make_model(self._models / "several", [size * MIB for size in sizes])

    def run(self, large_mib: int) -> None:
        """Limited line, no limit, worker's fetch, memory."""
        stores = ["folder", "minio"] if "MSP_MINIO_BINARY" in os.environ else ["folder"]
        for limit, rate in (("limited", LINK_BYTES_PER_S), ("unlimited", 0)):
            with source(self._models, rate) as hub:
                curl = self._median(partial(curl_s, hub, "bench/several", self._names))
                self._figure(f"curl_{limit}", curl)
                snapshot = self._median(partial(snapshot_download_s, hub, "bench/several"))
                self._figure(f"snapshot_download_{limit}", snapshot)
                for store in stores:
                    mirror = self._median(partial(self._mirror, hub, store))
                    self._figure(f"mirror_to_{store}_{limit}", mirror)
                    self._report.ratios[f"mirror_to_{store}_over_curl_{limit}"] = curl / mirror
                    self._report.ratios[f"mirror_to_{store}_over_snapshot_{limit}"] = snapshot / mirror
        self._worker_fetch(stores)
        make_model(self._models / "large", [large_mib * MIB])
        with source(self._models, 0) as hub:
            for store in stores:
                peak = self._peak_mib(hub, store)
                self._report.figures[f"registry_peak_mib_{large_mib}_mib_file_{store}"] = peak

    def _median(self, measure: Callable[[Path], float], at_least: int = 1) -> float:
        """Each time in a fresh folder."""
        seconds = []
        for _ in range(max(self._runs, at_least)):
            place = self._folder / "run"
            place.mkdir()
            os.sync()  # what ran before is still being written, and a worker waits until its files are
            seconds.append(measure(place))
            shutil.rmtree(place)
        return statistics.median(seconds)

    def _figure(self, name: str, seconds: float) -> None:
        self._report.figures[f"{name}_mb_per_s"] = self._bytes / seconds / 1e6

    @contextmanager
    def _registry(self, hub: str, store: str, place: Path) -> Iterator[tuple[str, Callable[[], float]]]:
        with ExitStack() as stack:
            settings = {"REGISTRY_STORE": f"file://{place}"}
            if store == "minio":
                settings = stack.enter_context(minio(place))
            yield stack.enter_context(registry(hub, settings))

    def _mirror(self, hub: str, store: str, place: Path) -> float:
        with self._registry(hub, store, place) as (url, _):
            return mirror_s(url, "bench/several")

    def _peak_mib(self, hub: str, store: str) -> float:
        place = self._folder / "peak"
        place.mkdir()
        with self._registry(hub, store, place) as (url, peak_mib):
            mirror_s(url, "bench/large")
            peak = peak_mib()
        shutil.rmtree(place)
        return peak

    def _worker_fetch(self, stores: list[str]) -> None:
        for store in stores:
            place = self._folder / "store"
            place.mkdir()
            with source(self._models, 0) as hub, self._registry(hub, store, place) as (url, _):
                mirror_s(url, "bench/several")
                # One run says little: it ends with the disk's own pace.
                fetch = self._median(partial(worker_fetch_s, url, "bench/several"), at_least=3)
                snapshot = self._median(partial(snapshot_download_s, url, "bench/several"), at_least=3)
            shutil.rmtree(place)
            self._figure(f"worker_fetch_from_{store}", fetch)
            self._figure(f"snapshot_download_from_{store}", snapshot)
            self._report.ratios[f"worker_fetch_over_snapshot_from_{store}"] = snapshot / fetch


def main() -> None:
    """Run it."""
    options = arguments(__doc__ or "")
    report = Report("mirror")
    curl = subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    report.peers = {"curl": curl, "huggingface_hub": version("huggingface_hub")}
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-mirror-") as folder:
        Bench(Path(folder), report, quick=options.quick).run(large_mib=256 if options.quick else 2048)
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


if __name__ == "__main__":
    main()
