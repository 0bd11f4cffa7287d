"""One platform of real processes for all integration tests."""

from collections.abc import Iterator

import openai
import pytest

from support.platform_processes import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The shipped sample cluster, up and healthy."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    platform.up()
    yield platform
    platform.down()


@pytest.fixture
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    """The official client, which repeats nothing by itself: every failure is seen."""
    url = f"{platform.url(8080)}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client
