"""The import of a bundle, step by step, beside bare sha256sum, docker load, and puts into the store."""

import http.client
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.datatypes import Part

from bench_mirror import MIB, make_model, minio
from local_registry import registry
from process_usage import processor_s
from report import Busyness, Report, arguments, publish

ROUNDS = 3
PART_BYTES = 16 * MIB
"""As the registry's own parts."""
STEPS = "benchmarks/import_steps.sh"
IMAGE = "msp-bench-import:layers"
BUCKET = "bench"
NO_HUB = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Took:
    """What a piece of work took."""

    wall_s: float
    processor_s: float
    """Of this process and all that it started; an engine that ran before is not among them."""


def took(work: Callable[[], object]) -> Took:
    """Do it. What was done before has reached the disk by then."""
    os.sync()
    begun, used = time.monotonic(), _processor_s()
    work()
    return Took(time.monotonic() - begun, _processor_s() - used)


def _processor_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return processor_s(os.getpid()) + ended.ru_utime + ended.ru_stime


def in_turn(peers: dict[str, Callable[[], Took]]) -> dict[str, Took]:
    """The median of each, measured one after the other in every round, so that all meet the same weather."""
    measured: dict[str, list[Took]] = {name: [] for name in peers}
    for number in range(ROUNDS):
        names = list(peers)
        for name in names if number % 2 == 0 else reversed(names):
            measured[name].append(peers[name]())
    return {
        name: Took(
            statistics.median(one.wall_s for one in values),
            statistics.median(one.processor_s for one in values),
        )
        for name, values in measured.items()
    }


def ratio(peer: Took, ours: Took) -> float:
    """Our speed over the peer's."""
    return peer.wall_s / ours.wall_s


def run(*command: str, cwd: Path | None = None) -> None:
    """Run it; its words are shown only when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


class Verification:
    """A bundle's verification, beside `sha256sum -c`. Both read what is in the page cache by then."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle

    def measure(self) -> dict[str, Took]:
        """Seconds of each."""
        self._bare()  # fills the page cache as far as it goes
        return in_turn({"sha256sum": self._bare, "verify": self._ours})

    def _bare(self) -> Took:
        return took(lambda: run("sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS", cwd=self._bundle))

    def _ours(self) -> Took:
        return took(lambda: run(STEPS, "verify", str(self._bundle)))


class Loading:
    """An image's loading, beside `docker load`. Before each the image is removed."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._tar = next((bundle / "images").glob("*.tar"))

    def measure(self) -> dict[str, Took]:
        """Seconds of each."""
        return in_turn({"docker_load": self._bare, "load": self._ours})

    def _bare(self) -> Took:
        remove_image()
        return took(lambda: run("docker", "load", "--quiet", "-i", str(self._tar)))

    def _ours(self) -> Took:
        remove_image()
        return took(lambda: run(STEPS, "load", str(self._bundle)))


def make_image(context: Path, size_mib: int) -> None:
    """An image of four layers of random bytes, made without a base."""
    context.mkdir()
    lines = ["FROM scratch"]
    for number in range(4):
        with (context / f"layer-{number}").open("wb") as file:
            for _ in range(size_mib // 4):
                file.write(os.urandom(MIB))
        lines.append(f"COPY layer-{number} /layer-{number}")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    run("docker", "build", "--quiet", "--tag", IMAGE, str(context))
    shutil.rmtree(context)


def remove_image() -> None:
    """It and its layers, if it is there."""
    subprocess.run(["docker", "rmi", "--force", IMAGE], capture_output=True)


class Models:
    """`msp models import --upload`, which the scripts run, beside puts by one client that hashes nothing."""

    def __init__(self, exported: Path, files: list[Path], server: dict[str, str], url: str) -> None:
        self._exported = exported
        self._files = files
        self._url = url
        self._host = urlsplit(server["MINIO_ENDPOINT"]).netloc
        self._client = Minio(
            self._host, access_key="bench-root", secret_key="bench-root-secret", secure=False
        )
        self._client.make_bucket(BUCKET)

    def measure(self) -> dict[str, Took]:
        """Seconds of each."""
        return in_turn(
            {
                "parts": self._parts,
                "whole": self._whole,
                "stock_client": self._stock_client,
                "sha256sum": self._hashing,
                "import": self._ours,
            }
        )

    def _hashing(self) -> Took:
        """What hashing alone would take."""
        return took(lambda: run("sha256sum", *map(str, self._files)))

    def _stock_client(self) -> Took:
        """minio's own client, one part after the other; over plain HTTP it signs each part's sha256."""
        measured = took(lambda: self._each(self._put_signed))
        self._forget()
        return measured

    def _parts(self) -> Took:
        """Multipart uploads of the registry's part size, one part after the other, unsigned payloads."""
        measured = took(lambda: self._each(self._put_parts))
        self._forget()
        return measured

    def _whole(self) -> Took:
        """One PUT for each file, by curl."""
        measured = took(lambda: self._each(self._put_whole))
        self._forget()
        return measured

    def _ours(self) -> Took:
        msp = [sys.executable, "-m", "msp_cli", "models"]
        where = ["--registry", self._url]
        measured = took(lambda: run(*msp, "import", "bench/model", str(self._exported), "--upload", *where))
        run(*msp, "rm", "bench/model", "--yes", *where)
        return measured

    def _each(self, put: Callable[[Path], None]) -> None:
        for file in self._files:
            put(file)

    def _put_whole(self, file: Path) -> None:
        run("curl", "-sS", "--fail", "-T", str(file), self._client.presigned_put_object(BUCKET, file.name))

    def _put_signed(self, file: Path) -> None:
        self._client.fput_object(BUCKET, file.name, str(file), part_size=PART_BYTES, num_parallel_uploads=1)

    def _put_parts(self, file: Path) -> None:
        client = self._client
        upload = client._create_multipart_upload(BUCKET, file.name, headers={})
        parts: list[Part] = []
        connection = http.client.HTTPConnection(self._host)
        with file.open("rb") as data:
            while chunk := data.read(PART_BYTES):
                number = len(parts) + 1
                query = {"uploadId": upload, "partNumber": str(number)}
                url = urlsplit(client.get_presigned_url("PUT", BUCKET, file.name, extra_query_params=query))
                connection.request("PUT", f"{url.path}?{url.query}", body=chunk)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise SystemExit(f"the store answered {answer.status} to part {number} of {file.name}")
                parts.append(Part(number, answer.headers["ETag"].strip('"')))
        connection.close()
        client._complete_multipart_upload(BUCKET, file.name, upload, parts)

    def _forget(self) -> None:
        for file in self._files:
            self._client.remove_object(BUCKET, file.name)


def told(report: Report, taken: dict[str, Took], size_mib: int) -> None:
    """Rates of all that was measured."""
    for name, one in taken.items():
        report.figures[f"{name}_mb_per_s"] = size_mib * MIB / one.wall_s / 1e6


def bench_bundle(folder: Path, report: Report, image_mib: int) -> None:
    """Verification and loading, of a bundle that the scripts' own code has made."""
    bundle = folder / "bundle"
    # As many small files as a release has, and a model of the size of its image.
    make_model(bundle / "models", [image_mib * MIB])
    for number in range(300):
        (bundle / "docs").mkdir(exist_ok=True)
        (bundle / "docs" / f"page-{number}.md").write_text(f"page {number}\n" * 200)
    make_image(folder / "context", image_mib)
    try:
        run(STEPS, "lock", str(bundle), IMAGE)
        verified = Verification(bundle).measure()
        loaded = Loading(bundle).measure()
    finally:
        remove_image()
    told(report, verified, 2 * image_mib)
    told(report, loaded, image_mib)
    report.ratios["verify_over_sha256sum"] = ratio(verified["sha256sum"], verified["verify"])
    report.ratios["load_over_docker_load"] = ratio(loaded["docker_load"], loaded["load"])
    shutil.rmtree(bundle)


def bench_models(folder: Path, report: Report, model_mib: int) -> None:
    """An exported model into a registry over a real MinIO."""
    model, exported, place = folder / "model", folder / "exported", folder / "store"
    make_model(model, [model_mib // 4 * MIB] * 4)
    place.mkdir()
    files = sorted(model.glob("*.dat"))
    with ExitStack() as stack:
        server = stack.enter_context(minio(place))
        url, _ = stack.enter_context(registry(NO_HUB, server))
        msp = [sys.executable, "-m", "msp_cli", "models"]
        run(*msp, "import", "bench/model", str(model), "--upload", "--registry", url)
        run(*msp, "export", "bench/model", str(exported), "--registry", url)
        run(*msp, "rm", "bench/model", "--yes", "--registry", url)
        taken = Models(exported, files, server, url).measure()
    told(report, {f"models_{name}": one for name, one in taken.items()}, model_mib)
    for name, one in taken.items():
        report.figures[f"models_{name}_processor_ms_per_mib"] = one.processor_s * 1000 / model_mib
    report.ratios["import_over_parts_in_turn"] = ratio(taken["parts"], taken["import"])
    report.ratios["import_over_stock_client"] = ratio(taken["stock_client"], taken["import"])
    report.ratios["import_over_whole_files"] = ratio(taken["whole"], taken["import"])


def main() -> None:
    """Run it."""
    options = arguments(__doc__ or "")
    if "MSP_MINIO_BINARY" not in os.environ:
        raise SystemExit("MSP_MINIO_BINARY must name a MinIO server; .ci/provision.sh builds one")
    report = Report("import")
    engine = ["docker", "version", "--format", "{{.Server.Version}}"]
    report.peers = {
        "sha256sum": first_line("sha256sum", "--version"),
        "docker": first_line(*engine),
        "minio": first_line(os.environ["MSP_MINIO_BINARY"], "--version"),
        "minio client": version("minio"),
    }
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-import-") as folder:
        bench_bundle(Path(folder), report, image_mib=300 if options.quick else 1024)
        bench_models(Path(folder), report, model_mib=500 if options.quick else 2048)
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


def first_line(*command: str) -> str:
    """Of what a program says of itself."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


if __name__ == "__main__":
    main()
