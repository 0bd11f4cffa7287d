"""The gateway beside the same upstream asked directly, and beside nginx where it is installed."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from http_load import Load, answer_always, load
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import HEARTBEAT_S, Capabilities, ServedModel, WorkerLease, WorkerState
from processes import free_port, program
from report import Busyness, Report, arguments, publish

CONNECTIONS = (1, 16, 64)


@contextmanager
def registered(service_registry: int, upstream: int) -> Iterator[None]:
    """The constant upstream holds a lease, renewed as a worker would."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(HEARTBEAT_S):
            register(service_registry, upstream)

    register(service_registry, upstream)
    heart = threading.Thread(target=renew)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def register(service_registry: int, upstream: int) -> None:
    """Tell the service registry of the constant upstream as if it were a worker."""
    lease = WorkerLease(
        url=f"http://127.0.0.1:{upstream}",
        host="bench",
        model=ServedModel(id="bench/model", type=ModelType.LLM),
        state=WorkerState.READY,
        capabilities=Capabilities(paths=["/v1/chat/completions"]),
        version="0",
        started_at=time.time(),
    )
    request = urllib.request.Request(
        f"http://127.0.0.1:{service_registry}/workers/bench",
        data=lease.model_dump_json().encode(),
        headers={"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).close()


@contextmanager
def our_gateway(upstream: int) -> Iterator[int]:
    registry_port, port = free_port(), free_port()
    registry = f"http://127.0.0.1:{registry_port}"
    lease_for_the_run = {"SERVICE_REGISTRY_HOST": "127.0.0.1", "SERVICE_REGISTRY_PORT": str(registry_port)}
    ours = {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICE_REGISTRY_URL": registry}
    with (
        program([sys.executable, "-m", "msp_service_registry"], lease_for_the_run, f"{registry}/health"),
        registered(registry_port, upstream),
        program([sys.executable, "-m", "msp_gateway"], ours, f"http://127.0.0.1:{port}/livez"),
    ):
        wait_for_model(port)
        yield port


def wait_for_model(port: int) -> None:
    """Return once the gateway has seen the worker."""
    for _ in range(100):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
            if json.load(answer)["data"]:
                return
        time.sleep(0.05)
    raise RuntimeError("the gateway never saw the worker")


@contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[int]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; upstream u {{ server 127.0.0.1:{upstream}; keepalive 256; }}\n"
        f" server {{ listen 127.0.0.1:{port}; keepalive_requests 10000000;\n"
        '  location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; } } }\n'
    )
    with program(["nginx", "-c", str(config), "-p", str(folder)], {}, f"http://127.0.0.1:{port}/"):
        yield port


def measure(port: int, duration_s: float) -> dict[int, Load]:
    return {c: asyncio.run(load(port, c, duration_s)) for c in CONNECTIONS}


@contextmanager
def constant_upstream() -> Iterator[int]:
    """The upstream in a process of its own, so that it shares no event loop with the load generator."""
    port = free_port()
    command = [sys.executable, __file__, "--serve", str(port)]
    with program(command, {"PYTHONPATH": os.pathsep.join(sys.path)}, f"http://127.0.0.1:{port}/"):
        yield port


async def serve(port: int) -> None:
    async with await asyncio.start_server(answer_always, "127.0.0.1", port) as server:
        await server.serve_forever()


def run(quick: bool) -> Report:
    report = Report("gateway")
    duration_s = 0.5 if quick else 4.0
    busyness = Busyness()
    results: dict[str, dict[int, Load]] = {}
    with constant_upstream() as upstream, tempfile.TemporaryDirectory() as folder:
        results["direct"] = measure(upstream, duration_s)
        report.peers["direct"] = "the same upstream, no gateway"
        with our_gateway(upstream) as port:
            results["gateway"] = measure(port, duration_s)
        if shutil.which("nginx"):
            version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip()
            report.peers["nginx"] = version.rpartition("/")[2]
            with nginx(upstream, Path(folder)) as port:
                results["nginx"] = measure(port, duration_s)
        else:
            report.peers["nginx"] = "not installed: not measured"
    report.foreign_cores = busyness.foreign_cores()
    for peer, loads in results.items():
        for connections, seen in loads.items():
            report.figures[f"{peer}, {connections} connections, requests/s"] = seen.requests_per_s
            report.figures[f"{peer}, {connections} connections, p50 ms"] = seen.p50_ms
            report.figures[f"{peer}, {connections} connections, p99 ms"] = seen.p99_ms
            if peer != "gateway":
                ours = results["gateway"][connections].requests_per_s
                report.ratios[f"requests/s, gateway / {peer}, {connections} connections"] = (
                    ours / seen.requests_per_s
                )
    return report


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        options = arguments(__doc__ or "")
        publish(run(options.quick), options.json)
