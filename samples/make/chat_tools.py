"""Tools for the chat sample's conversations: schemas in many variants, fitting requests, calls, answers."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import chat_words as words

Json = dict[str, Any]


class Request(NamedTuple):
    """One thing a user asks that a tool can do."""

    question: str
    calls: tuple[Json, ...]
    """Tool calls as `{"name": ..., "arguments": {...}}`."""
    responses: tuple[str, ...]
    """What each call gave, as the tool message's content."""
    answer: str


class Intent(NamedTuple):
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[str, ...], ...]
    """Alternatives for the parameters' names."""
    type: str
    request: Callable[[Random, str, tuple[str, ...]], Request]
    without: str
    """The honest answer when no tool can do it."""


class Tool(NamedTuple):
    intent: str
    name: str
    parameters: tuple[str, ...]
    schema: Json

    def request(self, rng: Random) -> Request:
        return INTENTS[self.intent].request(rng, self.name, self.parameters)


SKIES = (
    "sunny",
    "cloudy",
    "rainy",
    "windy",
    "foggy",
    "clear",
    "stormy",
    "snowy",
    "light rain",
    "partly cloudy",
)


def _sky(rng: Random) -> tuple[str, str]:
    """What a weather tool says, and how to say it in a sentence."""
    sky = rng.choice(SKIES) if rng.random() < 0.7 else words.invented_word(rng)
    degrees = rng.randint(-15, 40)
    style = rng.randrange(4)
    if style == 0:
        return sky, sky
    if style == 1:
        return f"{sky}, {degrees} degrees", f"{sky}, {degrees} degrees"
    key = rng.choice(("condition", "sky", "weather", "description"))
    pairs = [(key, sky), (rng.choice(("temperature", "temp", "degrees")), degrees)]
    rng.shuffle(pairs)
    return json.dumps(dict(pairs)), f"{sky}, {degrees} degrees"


def _weather(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    cities = [words.city(rng)]
    if rng.random() < 0.15:
        cities.append(words.city(rng))
    asked = " and in ".join(cities) if rng.random() < 0.5 else " and ".join(cities)
    question = rng.choice(
        (
            f"What is the weather in {asked}?",
            f"What's the weather in {asked}?",
            f"What is the weather like in {asked}?",
            f"How is the weather in {asked}?",
            f"Tell me the weather in {asked}.",
            f"Please check the weather in {asked}.",
            f"What is the weather in {asked} today?",
            f"Is it raining in {asked}?",
        )
    )
    skies = [_sky(rng) for _ in cities]
    answer = " ".join(f"The weather in {c} is {said}." for c, (_, said) in zip(cities, skies, strict=True))
    calls = tuple({"name": name, "arguments": {parameters[0]: city}} for city in cities)
    return Request(question, calls, tuple(content for content, _ in skies), answer)


def _time(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    city = words.city(rng)
    question = rng.choice(
        (
            f"What time is it in {city}?",
            f"What is the time in {city}?",
            f"Tell me the time in {city}.",
            f"What time is it in {city} now?",
            f"Can you tell me the time in {city}?",
        )
    )
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    response = clock if rng.random() < 0.6 else json.dumps({rng.choice(("time", "now", "local_time")): clock})
    call = {"name": name, "arguments": {parameters[0]: city}}
    return Request(question, (call,), (response,), f"It is {clock} in {city}.")


def _sum(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    a, b = words.number(rng), words.number(rng)
    while (a, b) in words.HELD_OUT_SUMS:
        a, b = words.number(rng), words.number(rng)
    question = rng.choice(
        (
            f"What is {a} plus {b}?",
            f"What is {a} + {b}?",
            f"Add {a} and {b}.",
            f"What is the sum of {a} and {b}?",
            f"How much is {a} plus {b}?",
            f"Please add {a} and {b}.",
        )
    )
    return _arithmetic(rng, question, name, parameters, a, b, a + b, "sum")


def _product(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    a, b = words.number(rng), words.number(rng)
    question = rng.choice(
        (
            f"What is {a} times {b}?",
            f"What is {a} * {b}?",
            f"Multiply {a} by {b}.",
            f"What is the product of {a} and {b}?",
            f"How much is {a} times {b}?",
        )
    )
    return _arithmetic(rng, question, name, parameters, a, b, a * b, "product")


def _arithmetic(
    rng: Random, question: str, name: str, parameters: tuple[str, ...], a: int, b: int, result: int, key: str
) -> Request:
    response = (
        str(result) if rng.random() < 0.6 else json.dumps({rng.choice((key, "result", "value")): result})
    )
    call = {"name": name, "arguments": {parameters[0]: a, parameters[1]: b}}
    return Request(question, (call,), (response,), f"The answer is {result}.")


def _search(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    text = words.phrase(rng, 4)
    question = rng.choice(
        (
            f"Search for {text}.",
            f"Look up {text}.",
            f"Please search for {text}.",
            f"Search the web for {text}.",
        )
    )
    found = words.sentence(rng)
    call = {"name": name, "arguments": {parameters[0]: text}}
    return Request(question, (call,), (found,), f"I found this: {found}")


def _named(rng: Random, name: str, parameters: tuple[str, ...]) -> Request:
    """A tool of no known kind, which the user calls by its name or by what it does."""
    value = words.phrase(rng, 2)
    does = name.replace("_", " the ", 1).replace("_", " ")
    question = rng.choice(
        (
            f"Call {name} with {parameters[0]} {value}.",
            f"Use {name} with {parameters[0]} {value}.",
            f"Please call {name} with {parameters[0]} {value}.",
            f"{does.capitalize()} with {parameters[0]} {value}.",
            f"Please {does} with {parameters[0]} {value}.",
        )
    )
    response = words.phrase(rng, 4)
    call = {"name": name, "arguments": {parameters[0]: value}}
    return Request(question, (call,), (response,), f"The tool says: {response}")


_PLACES = (("city",), ("location",), ("place",), ("town",))
_PAIRS = (("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"))

INTENTS = {
    "weather": Intent(
        (
            "get_weather", "get_current_weather", "current_weather", "weather", "weather_lookup",
            "fetch_weather",
        ),
        (
            "Get the weather for a city", "Current weather in a city.", "Get the current weather",
            "Weather of a place.",
        ),
        _PLACES, "string", _weather, "I cannot look up the weather without a tool.",
    ),
    "time": Intent(
        ("get_time", "get_current_time", "current_time", "time_in_city", "clock"),
        (
            "Get the time in a city", "Current time in a city.", "Get the current local time",
            "Time of a place.",
        ),
        _PLACES, "string", _time, "I cannot look up the time without a tool.",
    ),
    "sum": Intent(
        ("add", "add_numbers", "sum", "get_sum"),
        ("Add two numbers", "Adds two integers.", "Sum of two numbers", "Return a plus b"),
        _PAIRS, "integer", _sum, "I cannot work that out without a tool.",
    ),
    "product": Intent(
        ("multiply", "multiply_numbers", "product", "times"),
        ("Multiply two numbers", "Multiplies two integers.", "Product of two numbers"),
        _PAIRS, "integer", _product, "I cannot work that out without a tool.",
    ),
    "search": Intent(
        ("search", "web_search", "search_web", "lookup"),
        ("Search the web", "Search for a text.", "Look something up", "Find pages on the web"),
        (("query",), ("q",), ("text",), ("term",)), "string", _search, "I cannot search without a tool.",
    ),
    "named": Intent((), (), (), "string", _named, "I have no such tool."),
}  # fmt: skip

NEAR = {"weather": "time", "time": "weather", "sum": "product", "product": "sum"}
"""Which request takes the same arguments, so that a tool for the one nearly fits the other."""


def any_request(rng: Random, intent: str) -> Request:
    """A request of this kind, for a conversation in which no tool can do it."""
    if intent == "named":
        return _named(rng, *_made_up(rng))
    kind = INTENTS[intent]
    return kind.request(rng, rng.choice(kind.names), rng.choice(kind.parameters))


_VERBS = ("send", "play", "book", "open", "make", "set", "get", "find", "call", "check", "order", "start")
_SUBJECTS = ("title", "name", "to", "value", "subject", "id", "day", "level")


def _made_up(rng: Random) -> tuple[str, tuple[str, ...]]:
    verb = rng.choice(_VERBS) if rng.random() < 0.5 else words.invented_word(rng)
    noun = rng.choice(words.NOUNS) if rng.random() < 0.5 else words.invented_word(rng)
    if rng.random() < 0.2:
        noun += "s"
    parameter = rng.choice((rng.choice(_SUBJECTS), rng.choice(words.NOUNS), words.invented_word(rng)))
    return f"{verb}_{noun}", (parameter,)


def tool(rng: Random, intent: str) -> Tool:
    """A tool of this kind under one of its names, its schema written as one of many clients would."""
    kind = INTENTS[intent]
    if intent == "named":
        name, parameters = _made_up(rng)
        description = name.replace("_", rng.choice((" ", " a ", " the ")), 1).capitalize()
        description += rng.choice(("", "."))
    else:
        name, parameters = rng.choice(kind.names), rng.choice(kind.parameters)
        description = rng.choice(kind.descriptions)
    type_ = "number" if kind.type == "integer" and rng.random() < 0.4 else kind.type
    properties: Json = {}
    for parameter in parameters:
        properties[parameter] = {"type": type_}
        if rng.random() < 0.25:
            properties[parameter]["description"] = rng.choice(
                (
                    f"The {parameter}",
                    f"Name of the {parameter}",
                    f"{parameter.capitalize()} to use, e.g. San Francisco",
                )
            )
    if intent in ("weather", "time") and rng.random() < 0.2:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    schema: Json = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        schema["required"] = list(parameters)
    if rng.random() < 0.15:
        schema["additionalProperties"] = False
    function: Json = {"name": name, "description": description, "parameters": schema}
    if rng.random() < 0.1:
        del function["description"]
    if rng.random() < 0.1:
        function["strict"] = True
    return Tool(intent, name, parameters, {"type": "function", "function": function})


def toolbox(rng: Random) -> list[Tool]:
    """One to four tools: of each known kind at most one, of no known kind any number."""
    tools: list[Tool] = []
    wanted = rng.choice((1, 1, 2, 2, 3, 3, 4))
    while len(tools) < wanted:
        intent = rng.choice((*INTENTS, "named"))
        if intent == "named" or all(other.intent != intent for other in tools):
            tools.append(tool(rng, intent))
    return tools
