"""What all tests share."""

import gc
import os
from collections.abc import Generator, Iterator

import pytest

from support.few_authorities import few_authorities

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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Load all files without the collector, which would walk again and again what stays until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        _settle()


@pytest.fixture(scope="module", autouse=True)
def light_collector() -> Iterator[None]:
    """What a file leaves behind, such as parts of transformers that are loaded late, stays until the end too.

    That comes to a million objects. Every engine that is unloaded asks the collector, which then took half a
    second: more than a third of the time of the tests of engines. What is not needed any more goes first.
    """
    yield
    _settle()


def _settle() -> None:
    """Let the collector forget all that is alive now."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cheap_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A client costs little to make."""
    with few_authorities(tmp_path_factory.mktemp("authorities")):
        yield


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the programs run on."""
    return "asyncio", {"use_uvloop": True}
