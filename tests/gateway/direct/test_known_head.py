"""A head that is known again means what the parser would say that it means."""

from dataclasses import dataclass, field

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from msp_gateway.direct.known_head import KnownHead, RequestHead, known_head
from msp_gateway.fields import Fields
from msp_gateway.paths import RELAY_PATHS

PATH = "/v1/chat/completions"
START = f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nContent-Length: ".encode()
REST = b"\r\nAuthorization: Bearer key\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n"
BODY = b'{"model": "org/chat"}'
NOT_LONGER = 1000


@dataclass
class Parsed:
    """What httptools makes of bytes."""

    url: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: int = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def parsed(data: bytes) -> Parsed:
    told = Parsed()
    httptools.HttpRequestParser(told).feed_data(data)
    return told


def request(body: bytes = BODY, *, start: bytes = START, rest: bytes = REST) -> bytes:
    return start + b"%d" % len(body) + rest + body


def known(data: bytes) -> KnownHead | None:
    head = RequestHead(RELAY_PATHS[PATH], Fields(parsed(data).fields))
    return known_head(data, head, {"path": PATH})


@given(
    st.one_of(
        st.binary(max_size=200).map(request),
        st.builds(
            lambda digits, body: START + digits + REST + body,
            st.text("0123456789+-_, \t\r\nx", max_size=14).map(str.encode),
            st.binary(max_size=200),
        ),
        st.builds(
            lambda at, gone, put: request()[:at] + put + request()[at + gone :],
            st.integers(0, len(request())),
            st.integers(0, 3),
            st.sampled_from([b"", b"\r\n", b"Content-Length: 1\r\n", b"0", b"x", request()]),
        ),
    )
)
@example(request() * 2)
@example(START + b"00021" + REST + BODY)
@example(START + b"9" * 5000 + REST + BODY)
def test_what_is_taken_for_a_known_request_is_that_request(data: bytes) -> None:
    head = known(request())
    assert head is not None
    if (found := head.request_in(data, NOT_LONGER)) is None:
        return
    told = parsed(data)
    assert told.complete == 1
    assert (told.fields, told.body) == (found[0].fields.raw, found[1])
    assert (told.url, found[0].path) == (PATH.encode(), RELAY_PATHS[PATH])


def test_a_head_is_known_whatever_the_length_of_its_body() -> None:
    head = known(request())
    assert head is not None
    assert head.scope == {"path": PATH}
    for body in (BODY, b"", BODY, b"x" * NOT_LONGER):
        found = head.request_in(request(body), NOT_LONGER)
        assert found is not None
        assert found[1] == body
        assert found[0].fields[b"content-length"] == b"%d" % len(body)
        assert found[0].fields.raw.count((b"x-twice", b"1")) == 1


def test_nothing_but_one_whole_request_of_that_head_is_known() -> None:
    head = known(request())
    assert head is not None
    others = {
        "longer than allowed": request(b"x" * (NOT_LONGER + 1)),
        "half": request()[:-1],
        "one and a half": request() + b"POST ",
        "another key": request(rest=REST.replace(b"key", b"kex")),
        "another path": request(start=START.replace(b"chat/", b"")),
        "no length": START + REST + BODY,
        "two lengths": request(rest=b"\r\nContent-Length: 21" + REST),
    }
    assert {name: head.request_in(data, NOT_LONGER) for name, data in others.items()} == dict.fromkeys(others)


def test_only_a_request_that_came_whole_and_alone_is_learnt() -> None:
    whole = request()
    assert known(whole) is not None
    assert known(whole.replace(b"Content-Length: 21", b"content-length:\t21 ")) is not None
    head = RequestHead(RELAY_PATHS[PATH], Fields(parsed(whole).fields))
    for data in (whole[:-1], whole + whole, whole[10:], BODY, b""):
        learnt = known_head(data, head, {})
        # Of a request that began before, what is there begins nothing.
        assert learnt is None or learnt.request_in(whole, NOT_LONGER) is None
