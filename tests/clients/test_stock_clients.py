"""OpenAI's clients for Python and JavaScript and LangChain's, as they are installed, against workers."""

import pytest

from support.locked_environments import NoEnvironment, skip_or_fail
from support.stock_clients import CLIENTS, Places, StockClient


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_stock_client_gets_what_it_expects(client: StockClient, workers: Places) -> None:
    try:
        results = client.run(workers)
    except NoEnvironment as error:
        skip_or_fail(error)
    assert results == client.expected()
