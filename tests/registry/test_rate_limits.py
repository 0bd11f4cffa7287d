"""What a hub's headers say of waiting."""

import pytest

from msp_registry.hub.rate_limits import exhausted_for_s, wait_asked_s

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:30 GMT"}, 90.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:30 -0000"}, 90.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 56.0),
        ({"retry-after": "7", "ratelimit": '"api";r=0;t=55'}, 7.0),
        ({"retry-after": "soon", "ratelimit": '"api";r=0;t=55'}, 56.0),
    ],
)
def test_how_long_a_refusing_hub_asks_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ('"resolvers";r=2999;t=172', None),
        ('"resolvers";r=0;t=172', 173.0),
        ('"api"; r=0; t=5', 6.0),
        ('"api";t=5;r=0', 6.0),
        ('"api";r=0', None),
        ('"api";r=5;t=9, "pages";r=0;t=3', 4.0),
        ("limit=100, remaining=0, reset=5", None),
    ],
)
def test_for_how_long_no_request_is_left(header: str, seconds: float | None) -> None:
    assert exhausted_for_s({"ratelimit": header}) == seconds
