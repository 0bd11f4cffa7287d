"""What all tests share."""

import os

import pytest

# Before any engine is imported: tests share two cores, and nothing may look for a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What makes tests with chance in them more thorough."""
    parser.addoption("--long", action="store_true", help="run soak, fuzz and chaos in their long form")
    parser.addoption("--seed", type=int, help="what their chance begins with")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options on to modules, which need them when they are imported."""
    if config.getoption("--long"):
        os.environ["MSP_LONG"] = "1"
    if (seed := config.getoption("--seed")) is not None:
        os.environ["MSP_SEED"] = str(seed)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the programs run on."""
    return "asyncio", {"use_uvloop": True}
