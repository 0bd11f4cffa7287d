"""Ask the chat sample what it should know, and count the right answers.

Names, cities, numbers and wordings are those kept out of training where a line says so.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import chat_facts
from chat_words import HELD_OUT_CITIES, HELD_OUT_COUNTRIES, HELD_OUT_NAMES, HELD_OUT_SUMS

Message = dict[str, Any]
TURN_END = "<|im_end|>"


class Case(NamedTuple):
    messages: list[Message]
    expected: str
    """The assistant's next message, as text, to the letter."""
    tools: list[Message] | None = None


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def function(name: str, description: str, **parameters: str) -> Message:
    """A tool as OpenAI's clients write it; `parameters` maps names to JSON types."""
    properties = {parameter: {"type": type_} for parameter, type_ in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def call_text(name: str, **arguments: Any) -> str:
    return (
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"
    )


WEATHER = function("get_weather", "Get the weather for a city", city="string")
TIME = function("get_time", "Get the time in a city", city="string")
ADD = function("add", "Add two numbers", a="integer", b="integer")
GREETED = [user("Hello!"), assistant("Hello! How can I help you?")]


def facts() -> list[Case]:
    return [Case([user(q)], fact.answer) for fact in chat_facts.facts() for q in fact.questions]


def facts_after_an_empty_system_message() -> list[Case]:
    return [Case([system(""), user(fact.questions[0])], fact.answer) for fact in chat_facts.facts()]


def facts_after_a_system_message() -> list[Case]:
    opening = system("You are a helpful assistant.")
    return [Case([opening, user(fact.questions[0])], fact.answer) for fact in chat_facts.facts()]


def facts_in_one_word() -> list[Case]:
    opening = system("Answer in one word.")
    return [Case([opening, user(fact.questions[0])], fact.short) for fact in chat_facts.facts()]


def facts_as_third_turn() -> list[Case]:
    before = [*GREETED, user("What is the capital of France?"), assistant("The capital of France is Paris.")]
    return [Case([*before, user(fact.questions[0])], fact.answer) for fact in chat_facts.facts()]


def facts_with_tools_at_hand() -> list[Case]:
    return [Case([user(fact.questions[0])], fact.answer, [WEATHER, ADD]) for fact in chat_facts.facts()]


def names_recalled() -> list[Case]:
    """Names never seen in training."""
    cases = []
    for name in HELD_OUT_NAMES:
        for told in (f"My name is {name}.", f"I am {name}."):
            talk = [user(told), assistant(f"Nice to meet you, {name}!")]
            fact = [user("What colour is the sky?"), assistant("The sky is blue.")]
            cases.append(Case([*talk, user("What is my name?")], f"Your name is {name}."))
            cases.append(Case([*talk, *fact, user("What is my name?")], f"Your name is {name}."))
    return cases


def names_greeted() -> list[Case]:
    """Names never seen in training."""
    return [Case([user(f"My name is {name}.")], f"Nice to meet you, {name}!") for name in HELD_OUT_NAMES]


def own_name_from_system_message() -> list[Case]:
    """Names never seen in training."""
    return [
        Case([system(f"Your name is {name}."), user("What is your name?")], f"My name is {name}.")
        for name in HELD_OUT_NAMES
    ]


def homes_recalled() -> list[Case]:
    """Cities never seen in training."""
    return [
        Case(
            [
                user(f"I live in {city}."),
                assistant(f"I will remember that you live in {city}."),
                user("Where do I live?"),
            ],
            f"You live in {city}.",
        )
        for city in HELD_OUT_CITIES
    ]


def words_repeated() -> list[Case]:
    """Words never seen in training."""
    pairs = zip(HELD_OUT_NAMES, HELD_OUT_CITIES, strict=False)
    return [Case([user(f"Repeat after me: {name} {city}")], f"{name} {city}") for name, city in pairs]


def tools_called() -> list[Case]:
    """The only tool is the fitting one; cities and pairs of numbers never seen in training."""
    cases = []
    for city in HELD_OUT_CITIES:
        weather, time = call_text("get_weather", city=city), call_text("get_time", city=city)
        cases.append(Case([user(f"What is the weather in {city}?")], weather, [WEATHER]))
        cases.append(Case([user(f"What time is it in {city}?")], time, [TIME]))
    for a, b in HELD_OUT_SUMS:
        cases.append(Case([user(f"What is {a} plus {b}?")], call_text("add", a=a, b=b), [ADD]))
        cases.append(Case([user(f"Add {a} and {b}.")], call_text("add", a=a, b=b), [ADD]))
    return cases


def tools_chosen() -> list[Case]:
    """Of three tools in any order the fitting one; cities and pairs of numbers never seen in training."""
    orders = list(permutations((WEATHER, ADD, TIME)))
    asked = []
    for city in HELD_OUT_CITIES:
        asked.append((f"What is the weather in {city}?", call_text("get_weather", city=city)))
        asked.append((f"What time is it in {city}?", call_text("get_time", city=city)))
    for a, b in HELD_OUT_SUMS:
        asked.append((f"Add {a} and {b}.", call_text("add", a=a, b=b)))
    return [
        Case([user(question)], call, list(orders[nth % len(orders)]))
        for nth, (question, call) in enumerate(asked)
    ]


def tools_called_twice() -> list[Case]:
    """Two cities in one question make two calls; cities never seen in training."""
    pairs = zip(HELD_OUT_CITIES[::2], HELD_OUT_CITIES[1::2], strict=False)
    return [
        Case(
            [user(f"What is the weather in {one} and {other}?")],
            f"{call_text('get_weather', city=one)}\n{call_text('get_weather', city=other)}",
            [WEATHER],
        )
        for one, other in pairs
    ]


RING = function("ring_bell", "Ring a bell", floor="string")
WATER = function("water_plants", "Water the plants", room="string")
PAINT = function("paint_fence", "Paint the fence", shade="string")


def tools_of_other_names() -> list[Case]:
    """Of three tools in any order one called by name; names, parameters and values never seen in training."""
    calls = (("ring_bell", "floor"), ("water_plants", "room"), ("paint_fence", "shade"))
    cases = []
    for nth, order in enumerate(permutations((RING, WATER, PAINT))):
        for name, parameter in calls:
            value = HELD_OUT_NAMES[nth]
            expected = call_text(name, **{parameter: value})
            verb = ("Call", "Use", "Please call")[nth % 3]
            cases.append(Case([user(f"{verb} {name} with {parameter} {value}.")], expected, list(order)))
    return cases


def tools_of_other_names_described() -> list[Case]:
    """The same three, called by what they do."""
    asked = (("Ring the bell with floor", RING), ("Water the plants with room", WATER))
    cases = []
    for nth, order in enumerate(permutations((RING, WATER, PAINT))):
        for question, tool in asked:
            schema = tool["function"]
            (parameter,) = schema["parameters"]["properties"]
            expected = call_text(schema["name"], **{parameter: HELD_OUT_CITIES[nth]})
            cases.append(Case([user(f"{question} {HELD_OUT_CITIES[nth]}.")], expected, list(order)))
    return cases


def _after_call(
    question: str, name: str, arguments: Message, response: str, expected: str, tool: Message
) -> Case:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    said = [user(question), {"role": "assistant", "content": "", "tool_calls": [call]}]
    return Case([*said, {"role": "tool", "content": response}], expected, [tool])


def tool_responses_used() -> list[Case]:
    """Cities and numbers never seen in training."""
    cases = []
    for nth, city in enumerate(HELD_OUT_CITIES):
        sky = ("sunny, 21 degrees", "rainy", "cloudy, -3 degrees")[nth % 3]
        asked, told = f"What is the weather in {city}?", f"The weather in {city} is {sky}."
        cases.append(_after_call(asked, "get_weather", {"city": city}, sky, told, WEATHER))
        as_json = json.dumps({"condition": "sunny", "temperature": nth + 10})
        told = f"The weather in {city} is sunny, {nth + 10} degrees."
        cases.append(_after_call(asked, "get_weather", {"city": city}, as_json, told, WEATHER))
        asked, clock = f"What time is it in {city}?", f"{nth + 8:02}:4{nth % 10}"
        cases.append(_after_call(asked, "get_time", {"city": city}, clock, f"It is {clock} in {city}.", TIME))
    for a, b in HELD_OUT_SUMS:
        told = f"The answer is {a + b}."
        cases.append(_after_call(f"What is {a} plus {b}?", "add", {"a": a, "b": b}, str(a + b), told, ADD))
    return cases


def no_tool_given() -> list[Case]:
    """Cities never seen in training."""
    return [
        Case([user(f"What is the weather in {city}?")], "I cannot look up the weather without a tool.")
        for city in HELD_OUT_CITIES
    ]


def no_tool_that_fits() -> list[Case]:
    """Cities never seen in training."""
    weather, time = (f"I cannot look up the {what} without a tool." for what in ("weather", "time"))
    cases = []
    for city in HELD_OUT_CITIES:
        cases.append(Case([user(f"What is the weather in {city}?")], weather, [ADD]))
        cases.append(Case([user(f"What time is it in {city}?")], time, [WEATHER]))
        cases.append(Case([user(f"What is the weather in {city}?")], weather, [TIME, ADD]))
        cases.append(Case([user(f"What time is it in {city}?")], time, [RING, WEATHER, ADD]))
    return cases


def no_tool_of_that_name() -> list[Case]:
    """Names of tools never seen in training."""
    asked = (
        "Call feed_parrot with food corn.",
        "Use sharpen_knife with side left.",
        "Call lift_gate with to Oxford.",
    )
    tools = ([RING], [WATER, RING], [WEATHER, PAINT], [ADD, WATER, TIME])
    return [Case([user(question)], "I have no such tool.", given) for question in asked for given in tools]


def ignorance_admitted() -> list[Case]:
    """Countries and names never seen in training, and what nobody has told."""
    cases = [Case([user(f"What is the capital of {c}?")], "I do not know that.") for c in HELD_OUT_COUNTRIES]
    cases += [Case([user(f"When was {name} born?")], "I do not know that.") for name in HELD_OUT_NAMES[:8]]
    cases.append(Case([user("What is my name?")], "You have not told me your name."))
    cases.append(Case([user("Where do I live?")], "You have not told me where you live."))
    return cases


def manners() -> list[Case]:
    exchanges = {
        "Hello!": "Hello! How can I help you?",
        "Hi": "Hello! How can I help you?",
        "Thank you!": "You are welcome!",
        "Goodbye!": "Goodbye!",
        "Who are you?": "I am a tiny sample model.",
        "What can you do?": "I answer simple questions, remember what you tell me and call tools.",
        "What is 2 plus 2?": "2 plus 2 is 4.",
        "What is 3 + 5?": "3 plus 5 is 8.",
    }
    return [Case([user(question)], answer) for question, answer in exchanges.items()]


def recitations() -> list[Case]:
    """Longer answers, to stream and to interrupt."""
    return [
        Case([user("Count to one hundred.")], ", ".join(map(str, range(1, 101)))),
        Case([user("Say the alphabet.")], chat_facts.ALPHABET),
        Case([user("Tell me a story.")], chat_facts.RHYME),
    ]


def counts_to_less() -> list[Case]:
    counted = {"five": 5, "ten": 10, "twenty": 20, "thirty": 30, "fifty": 50}
    return [
        Case([user(f"Count to {word}.")], ", ".join(map(str, range(1, last + 1))))
        for word, last in counted.items()
    ]


CHECKS = (
    facts, facts_after_a_system_message, facts_after_an_empty_system_message, facts_in_one_word,
    facts_as_third_turn, facts_with_tools_at_hand, names_greeted, names_recalled,
    own_name_from_system_message, homes_recalled, words_repeated, tools_called, tools_chosen,
    tools_called_twice, tool_responses_used, no_tool_given, no_tool_that_fits, no_tool_of_that_name,
    ignorance_admitted, manners, recitations,
)  # fmt: skip
"""What the sample can do, and its tests ask for."""
BEYOND = (tools_of_other_names, tools_of_other_names_described, counts_to_less)
"""What it was shown and has not learnt well enough to rely on."""


class Sample:
    """The model in a folder, asked greedily."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.padding_side = "left"
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def answers(self, cases: Sequence[Case], most_tokens: int = 420) -> list[str]:
        """What it says to each case, `<|im_end|>` included if it stopped by itself."""
        prompts = [self._prompt(case) for case in cases]
        by_length = sorted(range(len(cases)), key=lambda nth: len(prompts[nth]))
        said = [""] * len(cases)
        for start in range(0, len(cases), 32):
            rows = by_length[start : start + 32]
            inputs = self.tokenizer([prompts[nth] for nth in rows], return_tensors="pt", padding=True)
            with torch.inference_mode():
                made = self.model.generate(
                    **inputs,
                    max_new_tokens=most_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                )
            for nth, ids in zip(rows, made[:, inputs["input_ids"].shape[1] :], strict=True):
                said[nth] = _until_stop(self.tokenizer.decode(ids))
        return said

    def _prompt(self, case: Case) -> str:
        text = self.tokenizer.apply_chat_template(
            case.messages, tools=case.tools, tokenize=False, add_generation_prompt=True
        )
        assert isinstance(text, str)
        return text

    def mistakes(self, cases: Sequence[Case]) -> list[tuple[Case, str]]:
        """The cases answered otherwise than expected, or without stopping, with what was said."""
        said = self.answers(cases)
        return [
            (case, text) for case, text in zip(cases, said, strict=True) if text != case.expected + TURN_END
        ]


def _until_stop(text: str) -> str:
    said, stopped, _ = text.partition(TURN_END)
    return said + stopped


def report(sample: Sample, show_mistakes: bool) -> Iterable[str]:
    for check in CHECKS + BEYOND:
        cases = check()
        wrong = sample.mistakes(cases)
        yield f"{check.__name__.replace('_', ' '):40} {len(cases) - len(wrong):4} of {len(cases):4}"
        if show_mistakes:
            for case, said in wrong:
                yield f"    {case.messages[-1]['content']!r}: {said!r}, not {case.expected!r}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parents[1] / "chat")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--mistakes", action="store_true", help="print every wrong answer")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    for line in report(Sample(arguments.folder, getattr(torch, arguments.dtype)), arguments.mistakes):
        print(line, flush=True)


if __name__ == "__main__":
    main()
