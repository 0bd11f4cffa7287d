"""Signed addresses end; new ones are asked for, for the same commit, and the download goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msp_model_service.weights.fetch_errors import NotYet
from msp_model_service.weights.fetching import PARALLEL
from support.worker_host import FILES, Host, running_host
from support.worker_registries import COMMIT


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running_host(tmp_path) as host:
        host.range_bytes = 10_000
        host.registry.signature = "right"
        yield host


def test_an_address_that_ends_later_is_used_as_it_is(host: Host) -> None:
    host.registry.hand_out = [("right", host.now + 60)]
    host.fetch()
    assert host.registry.resolved == ["main"]
    assert host.held() == FILES


def test_addresses_that_are_over_by_the_clock_are_renewed_once_for_the_same_commit(host: Host) -> None:
    soon = host.now + 5  # less than a request may take to get there
    host.registry.hand_out = [("stale", soon), ("right", host.now + 3600)]
    host.fetch()
    assert host.registry.resolved == ["main", COMMIT]
    assert host.held() == FILES
    # None was tried with the old ones: 30 ranges, and two small files.
    assert len(host.registry.asked) == 32


@pytest.mark.parametrize("refused_as", [401, 403, 410])
def test_addresses_that_the_store_refuses_are_renewed_once_for_all_ranges(
    host: Host, refused_as: int
) -> None:
    host.registry.refused_as = refused_as
    host.registry.hand_out = [("stale", host.now + 3600), ("right", None)]
    host.fetch()
    assert host.registry.resolved == ["main", COMMIT]
    assert host.held() == FILES


def test_when_addresses_end_midway_the_download_goes_on_where_it_was(host: Host) -> None:
    host.registry.hand_out = [("right", None), ("renewed", None)]
    host.registry.hold.clear()
    host.registry.answers_before_hold = 12
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(host.fetch)
        host.registry.wait_asked(12 + PARALLEL)
        host.registry.signature = "renewed"
        host.registry.hold.set()
        fetching.result(20)
    assert host.registry.resolved == ["main", COMMIT]
    assert host.held() == FILES
    assert host.registry.served_bytes == sum(map(len, FILES.values()))


def test_where_new_addresses_are_refused_too_the_worker_waits(host: Host) -> None:
    host.registry.hand_out = [("stale", None)]
    with pytest.raises(NotYet, match=r"ended after \d+ of \d+ bytes: answered 403"):
        host.fetch()
    assert len(host.registry.resolved) <= 1 + PARALLEL


def test_a_registry_with_another_clock_is_not_asked_for_each_range(host: Host) -> None:
    host.registry.hand_out = [("right", host.now - 3600)]
    host.fetch()
    assert host.registry.resolved == ["main", COMMIT]
    assert host.held() == FILES


@pytest.mark.parametrize(
    "address", ["ftp://store/file", "http://[", "http://store:port/x", "file:///etc/passwd"]
)
def test_an_address_that_is_none_is_named(host: Host, address: str) -> None:
    host.registry.redirect_to = address
    with pytest.raises(NotYet, match="is none of http or https"):
        host.fetch()


def test_a_name_with_spaces_and_letters_beyond_ascii_arrives(tmp_path: Path) -> None:
    files = {"a b/ü%20.json": b"{}"}
    with running_host(tmp_path, files) as host:
        host.registry.quotes_addresses = False
        with pytest.raises(NotYet, match="answered 404"):
            host.fetch()  # %20 in an address is a space: only a quoted address can name this file
        host.registry.quotes_addresses = True
        host.fetch()
        assert host.held() == files
