"""The text of `docker-compose.gpu-cluster.yml` for a plan. Pure.

The workers are written anew into the file that is there; all else in it stays as it is: the platform's own
services, its networks, and what the operator added.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msp_cli.plan.placement import Placed, Plan, gib
from msp_cli.plan.services import SHIPPED, STANDARD_WORKERS, Service

NAME = "docker-compose.gpu-cluster.yml"

_TOP = re.compile(r"^[A-Za-z_]")
_SERVICE = re.compile(r"^  ([A-Za-z0-9][\w.-]*):")
_EXTENDS = re.compile(r"extends:\s*\{[^}]*service:\s*([\w-]+)")
_RESET = re.compile(r":\s*!reset null\s*$")

_WRITTEN = (
    "  # Written by `msp plan`, as is all up to the last worker; the next plan with --write writes it anew."
)


class NotAClusterFile(ValueError):
    """The file that is there has no services to put workers among."""


@dataclass(frozen=True)
class _Block:
    """One service, with the comments right above it."""

    name: str
    lines: tuple[str, ...]

    @property
    def is_worker(self) -> bool:
        body = "\n".join(self.lines)
        extended = _EXTENDS.search(body)
        if extended is not None:
            return extended[1] in STANDARD_WORKERS
        return self.name in STANDARD_WORKERS and bool(_RESET.search(self.lines[-1]))


def compose_text(plan: Plan, services: Mapping[str, Service], there: str) -> str:
    """The file's text; `services` by name holds that of each placed worker, `there` is the file as it is.

    Raises NotAClusterFile.
    """
    before, blocks, after = _parts(there)
    place = next((n for n, block in enumerate(blocks) if block.is_worker), len(blocks))
    kept_after = [_text(block) for block in blocks[place:] if not block.is_worker]
    texts = [*map(_text, blocks[:place]), *_workers(plan, services, there), *kept_after]
    return before + "\n\n".join(texts) + "\n\n" + after


def _parts(text: str) -> tuple[str, list[_Block], str]:
    """What stands before the services, they, and what stands behind them."""
    lines = text.splitlines()
    if "services:" not in lines:
        raise NotAClusterFile(f"{NAME} has no line `services:`; take the platform's own file")
    start = lines.index("services:") + 1
    stop = next((n for n in range(start, len(lines)) if _TOP.match(lines[n])), len(lines))
    # Comments above the next key belong to that.
    while stop > start and lines[stop - 1].startswith("#"):
        stop -= 1
    return "\n".join(lines[:start]) + "\n", _blocks(lines[start:stop]), "\n".join(lines[stop:]) + "\n"


def _blocks(lines: Sequence[str]) -> list[_Block]:
    starts = [n for n, line in enumerate(lines) if _SERVICE.match(line)]
    begins = []
    for start in starts:
        begin = start
        while begin > 0 and lines[begin - 1].startswith("  #"):
            begin -= 1
        begins.append(begin)
    found = []
    for number, begin in enumerate(begins):
        end = begins[number + 1] if number + 1 < len(begins) else len(lines)
        match = _SERVICE.match(lines[starts[number]])
        body = list(lines[begin:end])
        while body and not body[-1].strip():
            body.pop()
        found.append(_Block(match[1] if match else "", tuple(body)))
    return found


def _text(block: _Block) -> str:
    return "\n".join(block.lines)


def _workers(plan: Plan, services: Mapping[str, Service], there: str) -> list[str]:
    kept = {placed.wanted.service for placed in plan.placed}
    gone = [name for name in STANDARD_WORKERS if name not in kept]
    blocks = []
    if gone:
        resets = "\n".join(f"  {name}: !reset null" for name in gone)
        blocks.append(f"  # Workers of the standard mode that make way for the pinned ones.\n{resets}")
    blocks += [
        _worker(placed, services[placed.wanted.service], len(plan.placed), there) for placed in plan.placed
    ]
    return [f"{_WRITTEN}\n{blocks[0]}", *blocks[1:]] if blocks else []


def _worker(placed: Placed, service: Service, workers: int, there: str) -> str:
    wanted, gpu = placed.wanted, placed.gpu
    lines = [
        f"  # {wanted.facts.id} on {gpu.name} ({gpu.index}), {gib(placed.usable)} to use:",
        f"  # {_leaves(placed)}",
        f"  {service.name}:",
    ]
    if "&worker" in there:
        lines.append("    <<: *worker")
    elif service.name in STANDARD_WORKERS:
        lines.append("    <<: *once")
    lines.append(f"    extends: {{ file: docker-compose.yml, service: {service.base} }}")
    if service.base not in ("llm", "embedding"):
        lines.append("    profiles: !reset []")
    lines += [
        "    environment:",
        *(["      <<: *pinned"] if "&pinned" in there else []),
        "      NVIDIA_VISIBLE_DEVICES: !reset null",
        f"      WORKERS_PER_HOST: ${{WORKERS_PER_HOST:-{workers}}}",
        f"      MODEL_NAME: ${{{service.model_variable}:-{wanted.facts.id}}}",
        f"      WORKER_URL: http://{service.name}:8000",
    ]
    if gpu.uuid.startswith("GPU-"):
        # The worker loads nothing on another one, as where .env has an index that means another card by now.
        lines.append(f"      EXPECTED_GPU_UUID: ${{{service.gpu_variable}:-{gpu.uuid}}}")
    if wanted.facts.revision != "main":
        # As YAML, JSON is fine; compose would take a dollar sign for a variable.
        lines.append("      MODEL_REVISION: " + json.dumps(wanted.facts.revision).replace("$", "$$"))
    if wanted.quantization != "none":
        lines.append(f"      QUANTIZATION: {wanted.quantization}")
    if not service.is_shipped:
        lines += [
            f"      EXTRA_PORT: {service.port}",
            f'    ports: !override ["${{BIND_ADDRESS:-127.0.0.1}}:{service.port}:{service.port}"]',
        ]
    if service.alias:
        lines.append(f"    networks: {{ default: {{ aliases: [{service.alias}] }} }}")
    lines += [
        "    deploy:",
        "      resources:",
        "        reservations:",
        "          devices:",
        "            - driver: nvidia",
        f'              device_ids: ["${{{service.gpu_variable}:-{gpu.uuid}}}"]',
        "              capabilities: [gpu]",
    ]
    return "\n".join(lines)


def _leaves(placed: Placed) -> str:
    if not placed.need.kv_per_token:
        return f"weights {gib(placed.need.weights)}"
    return (
        f"weights {gib(placed.need.weights)}, {placed.room.kv_tokens:,} tokens of keys and values,"
        f" {placed.room.rows} requests of {placed.need.context:,} tokens"
    )


def env_values(plan: Plan, services: Mapping[str, Service]) -> dict[str, str]:
    """What .env is to say for the plan: each worker's model and GPU, by UUID, which outlives a reboot."""
    values: dict[str, str] = {}
    for _, service in SHIPPED:
        for placed in plan.placed:
            if placed.wanted.service == service.name:
                values |= _values(placed, service)
    for placed in plan.placed:
        if not (service := services[placed.wanted.service]).is_shipped:
            values |= _values(placed, service)
    return values


def _values(placed: Placed, service: Service) -> dict[str, str]:
    return {service.model_variable: placed.wanted.facts.id, service.gpu_variable: placed.gpu.uuid}
