"""The committed chat sample can do what samples/README.md says. The questions are in chat_check.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import chat_check
import chat_words
from chat_check import Case, Sample, assistant, system, user

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def sample(request: pytest.FixtureRequest) -> Sample:
    torch.set_num_threads(1)
    return Sample(SAMPLES / "chat", getattr(torch, request.param))


@pytest.mark.parametrize(
    ("check", "at_least"),
    [
        (chat_check.facts, 0.97),
        (chat_check.facts_after_a_system_message, 0.97),
        (chat_check.facts_after_an_empty_system_message, 0.97),
        (chat_check.facts_in_one_word, 0.95),
        (chat_check.facts_as_third_turn, 0.97),
        (chat_check.facts_with_tools_at_hand, 0.95),
        (chat_check.names_greeted, 0.9),
        (chat_check.names_recalled, 0.9),
        (chat_check.own_name_from_system_message, 0.9),
        (chat_check.homes_recalled, 0.9),
        (chat_check.words_repeated, 0.85),
        (chat_check.tools_called, 0.9),
        (chat_check.tools_chosen, 0.9),
        (chat_check.tools_called_twice, 0.7),
        (chat_check.tool_responses_used, 0.9),
        (chat_check.no_tool_given, 0.9),
        (chat_check.no_tool_that_fits, 0.9),
        (chat_check.no_tool_of_that_name, 0.8),
        (chat_check.ignorance_admitted, 0.9),
        (chat_check.manners, 1.0),
        (chat_check.recitations, 1.0),
    ],
)
def test_skill_is_kept(sample: Sample, check: Callable[[], list[Case]], at_least: float) -> None:
    wrong = sample.mistakes(cases := check())
    assert 1 - len(wrong) / len(cases) >= at_least, [(case.messages[-1], said) for case, said in wrong]


def test_held_out_values_are_kept_out_of_the_training_words() -> None:
    trained = {word.lower() for word in (*chat_words.NAMES, *chat_words.CITIES)}
    assert not trained & {name.lower() for name in chat_words.HELD_OUT_NAMES + chat_words.HELD_OUT_CITIES}


def test_a_tool_call_parses_into_name_and_arguments(sample: Sample) -> None:
    asked = Case([user("What is the weather in Kyoto?")], "", [chat_check.WEATHER])
    said = sample.answers([asked])[0]
    call = json.loads(said.removeprefix("<tool_call>\n").partition("\n</tool_call>")[0])
    assert call == {"name": "get_weather", "arguments": {"city": "Kyoto"}}


def test_a_tool_without_description_or_parameters_can_be_shown(sample: Sample) -> None:
    bare = {"type": "function", "function": {"name": "get_weather"}}
    asked = Case([user("What is the capital of France?")], "The capital of France is Paris.", [bare])
    prompt = sample.tokenizer.apply_chat_template(asked.messages, tools=asked.tools, tokenize=False)
    assert "<tools>\n// get weather\nget_weather()\n</tools>" in prompt
    assert sample.mistakes([asked]) == []


def test_the_name_told_last_is_the_one_remembered(sample: Sample) -> None:
    talk = [
        user("My name is Alice."),
        assistant("Nice to meet you, Alice!"),
        user("What is my name?"),
        assistant("Your name is Alice."),
    ]
    assert sample.mistakes([Case([*talk, user("Who am I?")], "Your name is Alice.")]) == []


@pytest.mark.parametrize("text", ["?", "asdf qwer zxcv", "😀😀😀", "Ĥ ṁ ẅ", "\n\n", "SELECT 1;", "你是谁"])
def test_every_prompt_is_answered_and_the_answer_ends(sample: Sample, text: str) -> None:
    assert sample.answers([Case([user(text)], "")], most_tokens=100)[0].endswith(chat_check.TURN_END)


def test_a_prompt_of_three_thousand_tokens_is_answered(sample: Sample) -> None:
    filler = "The quiet teacher opens the old window near the river. " * 270
    asked = Case([system(filler), user("What is the capital of France?")], "The capital of France is Paris.")
    prompt = sample.tokenizer.apply_chat_template(asked.messages, return_dict=True)
    assert 3000 < len(prompt["input_ids"]) < 4000
    assert sample.answers([asked], most_tokens=100)[0].endswith(chat_check.TURN_END)


def test_any_text_survives_the_tokenizer(sample: Sample) -> None:
    text = 'naïve 東京 🙂 {"a": [1, 2]}\n\tend'
    assert sample.tokenizer.decode(sample.tokenizer.encode(text)) == text


def test_the_folder_holds_the_files_that_qwen_publishes() -> None:
    assert {path.name for path in (SAMPLES / "chat").iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
