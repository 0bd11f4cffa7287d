"""Plain completions as the official client and raw bytes see them."""

import json
from typing import Any

import httpx
import openai
import pytest

from support.chat_fakes import MODEL


def post(client: openai.OpenAI, **body: Any) -> httpx.Response:
    return httpx.post(f"{client.base_url}completions", json={"prompt": "once", **body})


def test_a_text_is_gone_on_with(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="once")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, answer.object) == ("You said: ", "stop", "text_completion")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 11)


def test_sixteen_tokens_are_the_default_limit(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="", prompt="x", extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


@pytest.mark.parametrize(
    ("prompt", "echoes"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([97, 98], ["ab"]),
        ([[97], [98, 99]], ["a", "bc"]),
        (["ab", [99]], ["ab", "c"]),
    ],
)
def test_all_forms_of_prompts_are_taken_and_echoed(
    client: openai.OpenAI, prompt: Any, echoes: list[str]
) -> None:
    answer = post(client, prompt=prompt, echo=True, n=2, max_tokens=3).json()
    assert [c["text"] for c in answer["choices"]] == [f"{echo}You" for echo in echoes for _ in range(2)]
    assert [c["index"] for c in answer["choices"]] == list(range(2 * len(echoes)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, echoes))


def test_streamed_or_not_the_text_is_the_same(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="", prompt=["é", "b"], echo=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    whole = client.completions.create(model="", prompt=["é", "b"], echo=True)
    assert texts == [c.text for c in whole.choices]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.object for chunk in chunks} == {"text_completion"}


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_have_the_older_shape(client: openai.OpenAI, stream: bool) -> None:
    answer = post(client, logprobs=2, max_tokens=4, stream=stream)
    if stream:
        frames = [json.loads(f.removeprefix("data: ")) for f in answer.text.split("\n\n")[:-2]]
        parts = [f["choices"][0]["logprobs"] for f in frames if f["choices"][0]["logprobs"]["tokens"]]
    else:
        parts = [answer.json()["choices"][0]["logprobs"]]
    tokens = [token for part in parts for token in part["tokens"]]
    assert tokens == ["Y", "o", "u", " "]
    assert [offset for part in parts for offset in part["text_offset"]] == [0, 1, 2, 3]
    assert all(len(top) == 2 for part in parts for top in part["top_logprobs"])
    assert all(logprob < 0 for part in parts for logprob in part["token_logprobs"])


@pytest.mark.parametrize("max_tokens", [0, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_brings_the_prompts_own_log_probabilities(
    client: openai.OpenAI, max_tokens: int, stream: bool
) -> None:
    answer = post(client, prompt="abc", echo=True, logprobs=1, max_tokens=max_tokens, stream=stream)
    if stream:
        bodies = [json.loads(f.removeprefix("data: ")) for f in answer.text.split("\n\n")[:-2]]
    else:
        bodies = [answer.json()]
    choices = [body["choices"][0] for body in bodies]
    parts = [choice["logprobs"] for choice in choices]
    assert "".join(choice["text"] for choice in choices) == "abc" + "Yo"[:max_tokens]
    tokens = [token for part in parts for token in part["tokens"]]
    assert tokens == [*"abc", *"Yo"[:max_tokens]]
    logprobs = [logprob for part in parts for logprob in part["token_logprobs"]]
    assert logprobs[0] is None
    assert all(logprob < 0 for logprob in logprobs[1:])
    assert [top and len(top) for part in parts for top in part["top_logprobs"]] == [None] + [1] * (
        2 + max_tokens
    )
    assert [at for part in parts for at in part["text_offset"]] == list(range(3 + max_tokens))
    assert choices[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": [1.5]}, "prompt.0"),
        ({"prompt": ["a", []]}, "prompt.1"),
        ({"prompt": [[1], ["a"]]}, "prompt.1"),
        ({"prompt": [True]}, "prompt.0"),
        ({"prompt": [5000]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "x" * 9000}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "echo": True}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.OpenAI, body: dict[str, Any], param: str
) -> None:
    answer = post(client, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_nulls_and_neutral_values_are_accepted(client: openai.OpenAI) -> None:
    null = dict.fromkeys(
        ["suffix", "best_of", "logprobs", "echo", "max_tokens", "stop", "n", "stream", "seed"]
    )
    assert post(client, **null).status_code == 200
    assert post(client, suffix="", best_of=1).status_code == 200


def test_a_prompt_is_required(client: openai.OpenAI) -> None:
    answer = httpx.post(f"{client.base_url}completions", json={"model": ""})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
