"""`continue`: a stream that broke off anywhere and was gone on with is the stream that never broke."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest

from msp_model_service.chat.conversation import Conversation
from msp_model_service.chat.reasoning import THINK, ReasoningFormat
from support.broken_streams import asked, check_every_cut, heard
from support.chat_fakes import WEATHER, Gate, RecordingUsage, chat_app, fake_engine, user
from support.servers import run_server

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
THERE: Any = {"id": "chatcmpl-1", "created": 5, "token_ids": [89], "content": 0}
USAGE = {"stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def worker() -> Iterator[Any]:
    """The URL of a worker that answers so."""
    with ExitStack() as stack:
        known: dict[Any, str] = {}

        def at(answer: str, reasoning: ReasoningFormat | None = None) -> str:
            if (answer, reasoning) not in known:

                def say(_: Conversation) -> str:
                    return answer

                app = chat_app(fake_engine(answer=say, reasoning=reasoning))
                known[answer, reasoning] = stack.enter_context(run_server(app))
            return known[answer, reasoning]

        yield at


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [user("x")], **fields}


@pytest.mark.parametrize("options", [{}, USAGE])
def test_a_chat_cut_anywhere_and_continued_is_the_chat_undisturbed(worker: Any, options: Any) -> None:
    right = check_every_cut(worker("Héllo 🙂 世界."), CHAT, chat(**options))
    assert (right.content, right.roles, right.finishes) == ("Héllo 🙂 世界.", 1, ["stop"])
    assert [usage["completion_tokens"] for usage in right.usages] == ([20] if options else [])


@pytest.mark.parametrize("options", [{}, USAGE])
def test_a_completion_too(worker: Any, options: Any) -> None:
    right = check_every_cut(worker("Héllo 🙂 you."), TEXT, {"prompt": "x", "max_tokens": 12, **options})
    assert (right.content, right.roles, right.finishes) == ("Héllo 🙂 ", 0, ["length"])


def test_a_stop_sequence_across_the_cut_is_found_and_never_shown(worker: Any) -> None:
    right = check_every_cut(worker("one, STOl, STOP, two"), CHAT, chat(stop=["STOP"], **USAGE))
    assert (right.content, right.finishes) == ("one, STOl, ", ["stop"])


def test_thinking_goes_on_as_thinking(worker: Any) -> None:
    right = check_every_cut(worker("<think>\nhm é?\n\n</think>\n\nYes.", THINK), CHAT, chat(**USAGE))
    assert (right.thinking, right.content) == ("hm é?", "Yes.")
    assert right.usages[0]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_the_limit_counts_what_was_there_before(worker: Any) -> None:
    right = check_every_cut(worker("A long answer."), CHAT, chat(max_tokens=6, **USAGE))
    assert (right.content, right.finishes, right.usages[0]["completion_tokens"]) == ("A long", ["length"], 6)


def test_an_answer_of_a_form_too(worker: Any) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    assert check_every_cut(worker("x"), CHAT, chat(response_format=form)).content == '{"city": ""}'


def test_only_new_tokens_are_made() -> None:
    gate, usage = Gate(), RecordingUsage()
    with run_server(chat_app(fake_engine(before_token=gate.before_token), usage=usage)) as url:
        known = {**THERE, "token_ids": list(b"You said"), "content": 3}
        said = heard(httpx.post(url + CHAT, json=chat(stream=True) | {"continue": known}).content)
    assert said.content == " said: x"
    assert said.heads == {("chatcmpl-1", 5)}
    assert gate.asked == len(": x") + 1
    assert usage.tokens[0][1] == len("You said: x") + 1


def test_a_stream_has_no_token_ids_unless_it_is_asked_for_them(worker: Any) -> None:
    assert b": t" not in httpx.post(worker("abc") + CHAT, json=chat(stream=True)).content


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, chat(n=2)),
        (CHAT, chat(tools=[WEATHER])),
        (CHAT, chat(logprobs=True)),
        (TEXT, {"prompt": "x", "n": 2}),
        (TEXT, {"prompt": ["x", "y"]}),
        (TEXT, {"prompt": "x", "logprobs": 0}),
        (TEXT, {"prompt": "x", "echo": True}),
    ],
)
def test_what_cannot_be_gone_on_with_tells_no_ids_and_is_refused(worker: Any, path: str, fields: Any) -> None:
    marked = {"x-msp-resumable": "1"}
    answer = httpx.post(worker("abc") + path, json={**fields, "stream": True}, headers=marked)
    assert (answer.status_code, b": t" in answer.content) == (200, False)
    refused = httpx.post(worker("abc") + path, json={**fields, "stream": True, "continue": THERE})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "continue")


@pytest.mark.parametrize(
    "wrong",
    [{"token_ids": []}, {"token_ids": [999]}, {"token_ids": [-1]}, {"id": ""}, {"content": -1}],
)
def test_what_makes_no_sense_is_refused(worker: Any, wrong: Any) -> None:
    answer = httpx.post(worker("abc") + CHAT, json=chat(stream=True) | {"continue": {**THERE, **wrong}})
    assert (answer.status_code, answer.json()["error"]["param"].split(".")[0]) == (400, "continue")


def test_only_streams_are_continued(worker: Any) -> None:
    answer = httpx.post(worker("abc") + CHAT, json=chat() | {"continue": THERE})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "continue")
    assert "stream" in answer.json()["error"]["message"]


def test_the_official_client_does_not_see_the_ids(worker: Any) -> None:
    with openai.OpenAI(base_url=worker("Hé 🙂") + "/v1", api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="", messages=[user("x")], stream=True, extra_headers={"x-msp-resumable": "1"}
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hé 🙂"
    assert b": t" in asked(
        worker("Hé 🙂"), CHAT, b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
    )
