"""Fixtures of the tests of `msp`."""

from collections.abc import Iterator

import pytest

from support.cli_registry import Served, served_registry


@pytest.fixture
def served() -> Iterator[Served]:
    """A registry that says what the test tells it to say."""
    with served_registry() as served:
        yield served
