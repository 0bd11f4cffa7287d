"""The gateways that are compared, each running alone on the first core.

Peers are taken where they are installed, nginx and LiteLLM for instance by

    mkdir -p .venv-bench/nginx && cd .venv-bench/nginx && apt-get download nginx && dpkg -x nginx_*.deb .
    uv venv .venv-bench/litellm
    uv pip install --python .venv-bench/litellm/bin/python 'litellm[proxy]==1.106.2' \
        opentelemetry-sdk opentelemetry-exporter-otlp
    for router in vllm-router smg sglang-router; do
        uv venv .venv-bench/$router
        uv pip install --python .venv-bench/$router/bin/python $router
    done

PyPI's `vllm-router` is the Rust program. production-stack's router, in Python, has the same name and is on no
package index; it needs Python 3.12 and a checkout of vllm-project/production-stack with its tags:

    uv venv --python 3.12 .venv-bench/production-stack
    uv pip install --python .venv-bench/production-stack/bin/python CHECKOUT
"""

import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msp_common.api_keys import digest, new_key
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import (
    HEARTBEAT_S,
    Capabilities,
    ServedModel,
    WorkerLease,
    WorkerLoad,
    WorkerState,
)
from processes import free_port, pinned, program, until_ready

VENVS = Path(".venv-bench")
CORE = 0

# An interpreter that does not have the packages itself is told where they are, editable ones included.
AS_MODULE = """
import runpy, site, sys
site.addsitedir(sys.argv[1])
runpy.run_module(sys.argv[2], run_name="__main__")
"""


@dataclass(frozen=True)
class Target:
    """A gateway that runs."""

    port: int
    pid: int
    key: str = "sk-bench"


Runs = Callable[[int], AbstractContextManager[Target]]
"""From the port of the upstream."""


@contextmanager
def our_gateway(upstream: int, python: str = sys.executable) -> Iterator[Target]:
    """The gateway as it is shipped, with a service registry beside it and a key that it asks for.

    `python` is another interpreter of the same version that is to run it, with the same packages.
    """
    registry_port, port = free_port(), free_port()
    registry = f"http://127.0.0.1:{registry_port}"
    theirs = {"SERVICE_REGISTRY_HOST": "127.0.0.1", "SERVICE_REGISTRY_PORT": str(registry_port)}
    key = new_key()
    with tempfile.TemporaryDirectory() as place:
        keys = Path(place) / "keys.yaml"
        keys.write_text(json.dumps({"keys": [{"id": key.id, "name": "bench", "sha256": digest(key.secret)}]}))
        ours = {
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_AUTH": "on",
            "GATEWAY_KEYS_FILE": str(keys),
            "SERVICE_REGISTRY_URL": registry,
        }
        command = pinned([python, "-c", AS_MODULE, sysconfig.get_path("purelib"), "msp_gateway"], CORE)
        with (
            program([sys.executable, "-m", "msp_service_registry"], theirs, f"{registry}/health"),
            registered(registry_port, upstream),
            program(command, ours, f"http://127.0.0.1:{port}/livez") as process,
        ):
            wait_for_model(port, key.secret)
            yield Target(port, process.pid, key.secret)


@contextmanager
def registered(service_registry: int, upstream: int) -> Iterator[None]:
    """The upstream holds a lease, renewed as a worker would."""
    ended = threading.Event()
    lease = WorkerLease(
        url=f"http://127.0.0.1:{upstream}",
        host="bench",
        model=ServedModel(id="bench/model", type=ModelType.LLM),
        state=WorkerState.READY,
        capabilities=Capabilities(paths=["/v1/chat/completions"]),
        load=WorkerLoad(slots=4096),  # so that no request waits for its turn
        version="0",
        started_at=time.time(),
    )

    def register() -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{service_registry}/workers/bench",
            data=lease.model_dump_json().encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request).close()

    def renew() -> None:
        while not ended.wait(HEARTBEAT_S):
            register()

    register()
    heart = threading.Thread(target=renew)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def wait_for_model(port: int, key: str) -> None:
    """Return once the gateway has seen the worker."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"}
    )
    for _ in range(100):
        with urllib.request.urlopen(asked) as answer:
            if json.load(answer)["data"]:
                return
        time.sleep(0.05)
    raise SystemExit("the gateway never saw the worker")


def find_nginx() -> str | None:
    unpacked = VENVS / "nginx/usr/sbin/nginx"
    return shutil.which("nginx") or (str(unpacked) if unpacked.exists() else None)


@contextmanager
def nginx(upstream: int) -> Iterator[Target]:
    """As a proxy that keeps connections and passes on every piece at once, with no other duty."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null; user root;\n"
            "worker_rlimit_nofile 16384; events { worker_connections 8192; }\n"
            "http { access_log off; client_max_body_size 0; client_body_buffer_size 2m;\n"
            + "".join(
                f" {kind}_temp_path {folder}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f" upstream u {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}\n"
            f" server {{ listen 127.0.0.1:{port} backlog=4096; keepalive_requests 10000000; tcp_nodelay on;\n"
            "  location / { proxy_pass http://u; proxy_http_version 1.1; proxy_buffering off;\n"
            '   proxy_set_header Connection ""; add_header x-request-id $request_id; } } }\n'
        )
        command = pinned([find_nginx() or "nginx", "-c", str(config), "-p", folder], CORE)
        with program(command, {}, f"http://127.0.0.1:{port}/") as process:
            yield Target(port, process.pid)


@contextmanager
def litellm(upstream: int) -> Iterator[Target]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litellm.yaml"
        model = {
            "model": "openai/bench/model",
            "api_base": f"http://127.0.0.1:{upstream}/v1",
            "api_key": "sk-x",
        }
        config.write_text(
            json.dumps(
                {
                    "model_list": [{"model_name": "bench/model", "litellm_params": model}],
                    "litellm_settings": {"telemetry": False, "set_verbose": False},
                }
            )
        )
        command = [str(VENVS / "litellm/bin/litellm"), "--config", str(config), "--port", str(port)]
        environment = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        command = pinned([*command, "--host", "127.0.0.1", "--num_workers", "1"], CORE)
        health = f"http://127.0.0.1:{port}/health/liveliness"
        with program(command, environment, health) as process:
            until_ready(health)
            yield Target(port, process.pid)


def rust_router(program_of_venv: str, *command: str) -> Runs:
    """The three of them are relatives, and take the same arguments."""

    @contextmanager
    def run(upstream: int) -> Iterator[Target]:
        port = free_port()
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        arguments += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"]
        arguments += ["--prometheus-port", str(free_port())]
        started = pinned([str(VENVS / program_of_venv), *command, *arguments], CORE)
        with program(started, {}, f"http://127.0.0.1:{port}/health") as process:
            until_ready(f"http://127.0.0.1:{port}/health")
            yield Target(port, process.pid)

    return run


@contextmanager
def production_stack(upstream: int) -> Iterator[Target]:
    port = free_port()
    command = [str(VENVS / "production-stack/bin/vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--service-discovery", "static", "--static-backends", f"http://127.0.0.1:{upstream}"]
    command += ["--static-models", "bench/model", "--routing-logic", "roundrobin", "--log-level", "error"]
    with program(pinned(command, CORE), {}, f"http://127.0.0.1:{port}/health") as process:
        until_ready(f"http://127.0.0.1:{port}/health")
        yield Target(port, process.pid)


def peers(*, others: bool) -> tuple[dict[str, Runs], dict[str, str]]:
    """What can be compared with, and a version, or the reason of its absence, for each."""
    runs: dict[str, Runs] = {}
    versions: dict[str, str] = {}
    if (binary := find_nginx()) is not None:
        told = subprocess.run([binary, "-v"], capture_output=True, text=True).stderr
        versions["nginx"], runs["nginx"] = told.strip().rpartition("/")[2], nginx
    else:
        versions["nginx"] = "not installed: not measured; benchmarks/gateway_targets.py says how to get it"
    # Where it is installed, its program, and how it is run.
    in_venvs = {
        "litellm": ("litellm", litellm),
        "vllm-router": ("vllm-router", rust_router("vllm-router/bin/vllm-router")),
        "smg": ("smg", rust_router("smg/bin/smg", "launch")),
        "sglang-router": ("sglang-router", rust_router("sglang-router/bin/sglang-router", "launch")),
        "production-stack": ("vllm-router", production_stack),
    }
    for name, (package, run) in in_venvs.items() if others else ():
        if (VENVS / name / "bin" / package).exists():
            shown = subprocess.run(
                ["uv", "pip", "show", "--python", str(VENVS / name / "bin/python"), package],
                capture_output=True,
                text=True,
            ).stdout
            version = next((line for line in shown.splitlines() if line.startswith("Version: ")), "")
            versions[name], runs[name] = version.removeprefix("Version: "), run
        else:
            versions[name] = (
                f"not in {VENVS / name}: not measured; benchmarks/gateway_targets.py says how to get it"
            )
    return runs, versions
