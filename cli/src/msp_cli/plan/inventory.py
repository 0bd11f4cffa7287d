"""The GPUs of a host, as `nvidia-smi` lists them. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUERY = (
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,memory.used",
    "--format=csv,noheader,nounits",
)
"""The command whose output is read; a file in the same form does as well."""

_MIB = 2**20
_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]+")


class BadInventory(ValueError):
    """Not what QUERY prints; the text names the line."""


@dataclass(frozen=True)
class PlanGpu:
    """One GPU that a model may be placed on."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int

    def is_called(self, name: str) -> bool:
        """Whether `name` is its index or its UUID, as `device_ids` takes them."""
        return name in (str(self.index), self.uuid)


def read_inventory(text: str) -> list[PlanGpu]:
    """The GPUs in the order of the lines. Raises BadInventory."""
    gpus: list[PlanGpu] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip() for field in line.split(",")]
        if not line.strip() or line.startswith("#") or fields[0] == "index":
            continue
        gpus.append(_gpu(fields, number))
    if not gpus:
        raise BadInventory("no GPU is listed; expected the output of: " + " ".join(QUERY))
    for what, seen in (("index", [gpu.index for gpu in gpus]), ("UUID", [gpu.uuid for gpu in gpus])):
        if twice := _first_twice(seen):
            raise BadInventory(f"the {what} {twice} is listed twice; one file is for one host")
    return gpus


def _gpu(fields: Sequence[str], number: int) -> PlanGpu:
    if len(fields) != 5:
        raise BadInventory(
            f"line {number} has {len(fields)} fields, expected index, uuid, name, memory.total, memory.used: "
            "the output of: " + " ".join(QUERY)
        )
    index, uuid, name, total, used = fields
    if not index.isdigit() or not _UUID.fullmatch(uuid):
        raise BadInventory(f"line {number}: {index!r}, {uuid!r} are no index and UUID")
    return PlanGpu(int(index), uuid, name, _bytes(total, number), _bytes(used, number))


def _bytes(text: str, number: int) -> int:
    """MiB, with or without the unit. A GPU that is split by MIG, or shares the main memory, tells none."""
    figure = text.removesuffix("MiB").strip()
    if not figure.isdigit():
        raise BadInventory(
            f"line {number}: {text!r} is no size in MiB; write the GPU's memory there by hand and hand the "
            "file in with --gpus"
        )
    return int(figure) * _MIB


def _first_twice(values: Sequence[object]) -> object | None:
    # Index 0 counts too, so that the answer is text.
    return next((str(value) for place, value in enumerate(values) if value in values[:place]), None)
