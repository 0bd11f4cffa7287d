"""What all tests share."""

import os

import pytest

# Before any engine is imported: tests share two cores, and nothing may look for a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the programs run on."""
    return "asyncio", {"use_uvloop": True}
