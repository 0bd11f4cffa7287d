"""The clients of tests/clients, with the gateway between them and the workers."""

import pytest

from support.locked_environments import NoEnvironment, skip_or_fail
from support.platform_processes import Platform
from support.stock_clients import CLIENTS, StockClient, of_samples


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_stock_client_gets_the_same_through_the_gateway(client: StockClient, platform: Platform) -> None:
    gateway = platform.url(8080)
    try:
        results = client.run(of_samples(gateway, gateway, gateway))
    except NoEnvironment as error:
        skip_or_fail(error)
    assert results == client.expected()
