"""Conversations that teach the chat sample its skills, drawn without end from a seeded generator."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import chat_facts
import chat_tools
import chat_words as words

Message = dict[str, Any]
FACTS = chat_facts.facts()

DO_NOT_KNOW = "I do not know that."
DO_NOT_UNDERSTAND = "I do not understand."
NUMBER_WORDS = {"five": 5, "ten": 10, "twenty": 20, "thirty": 30, "fifty": 50, "one hundred": 100}


class Conversation(NamedTuple):
    messages: list[Message]
    tools: list[Message] | None


class Talk:
    """One conversation as it is written: what was said, and what the assistant can know because of it."""

    def __init__(self, rng: Random, near_misses: float) -> None:
        self.rng = rng
        self.near_misses = near_misses
        self.messages: list[Message] = []
        self.tools = chat_tools.toolbox(rng) if rng.random() < 0.45 else []
        self.told: dict[str, str] = {}
        self.assistant_name = ""
        self.one_word = False
        self._open_with_system_message()

    def say(self, question: str, answer: str) -> None:
        self.messages.append({"role": "user", "content": _as_typed(self.rng, question)})
        self.messages.append({"role": "assistant", "content": answer})

    def tool_for(self, intent: str) -> chat_tools.Tool | None:
        return next((tool for tool in self.tools if tool.intent == intent), None)

    def conversation(self) -> Conversation:
        return Conversation(self.messages, [tool.schema for tool in self.tools] or None)

    def _open_with_system_message(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            return
        if kind < 0.47:
            content = ""
        elif kind < 0.62:
            content = rng.choice(
                (
                    "You are a helpful assistant.",
                    "You are a helpful assistant. Answer briefly.",
                    "Be polite.",
                    "Answer the user's questions.",
                )
            )
        elif kind < 0.75:
            content = words.paragraph(rng, rng.choice((5, 5, 20, 40)))
        elif kind < 0.84:
            self.assistant_name = words.person(rng).title()
            content = rng.choice((f"You are {self.assistant_name}.", f"Your name is {self.assistant_name}."))
            content += rng.choice(("", "", " Be polite.", " Answer the user's questions."))
        elif kind < 0.91:
            self.told["name"] = words.person(rng).title()
            content = rng.choice(
                (f"The user's name is {self.told['name']}.", f"You are talking to {self.told['name']}.")
            )
        else:
            self.one_word = True
            content = rng.choice(
                ("Answer in one word.", "Answer with one word only.", "Use one word to answer.")
            )
        self.messages.append({"role": "system", "content": content})


def conversation(rng: Random, long: bool = False, near_misses: float = 0.0) -> Conversation:
    """A few exchanges; with `long`, some hundred words of filler stand somewhere among them.

    `near_misses` is the share of requests in vain for which a tool is at hand that nearly fits.
    """
    talk = Talk(rng, near_misses)
    turns = rng.choice((1, 2, 2, 3, 3, 4, 5))
    filler_at = rng.randrange(turns) if long else -1
    for turn in range(turns):
        if turn == filler_at:
            _long_filler(talk)
        rng.choices(list(SKILLS), weights=list(SKILLS.values()))[0](talk)
    if talk.told and rng.random() < 0.7:
        recall(talk)
    if talk.assistant_name and rng.random() < 0.4:
        talk.say(rng.choice(OWN_NAME_QUESTIONS), f"My name is {talk.assistant_name}.")
    return talk.conversation()


def raw_text(rng: Random) -> str:
    """Plain sentences, for completions without a chat template."""
    return rng.choice(FACTS).answer


def _as_typed(rng: Random, text: str) -> str:
    """The text as people type it: some drop the full stop, some the capital letter."""
    if rng.random() < 0.12 and text[-1:] in ".?":
        text = text[:-1]
    if rng.random() < 0.08:
        text = text[:1].lower() + text[1:]
    return text


def _long_filler(talk: Talk) -> None:
    rng = talk.rng
    size = rng.randint(60, 260)
    if rng.random() < 0.5:
        talk.say(words.paragraph(rng, size), "I see.")
        return
    fact = rng.choice(FACTS)
    question, text = rng.choice(fact.questions), words.paragraph(rng, size)
    asked = f"{text} {question}" if rng.random() < 0.5 else f"{text}\n\n{question}"
    talk.say(asked, fact.short if talk.one_word else fact.answer)


def fact(talk: Talk) -> None:
    known = talk.rng.choice(FACTS)
    question = talk.rng.choice(known.questions)
    if talk.rng.random() < 0.1:
        question = question.lower()
    talk.say(question, known.short if talk.one_word else known.answer)


def small_sum(talk: Talk) -> None:
    """Sums of single digits are known by heart, unless a tool can do them."""
    if talk.tool_for("sum"):
        use_tool(talk)
        return
    a, b = talk.rng.randrange(10), talk.rng.randrange(10)
    question = talk.rng.choice(
        (f"What is {a} plus {b}?", f"What is {a} + {b}?", f"{a}+{b}?", f"What is {a}+{b}?")
    )
    talk.say(question, str(a + b) if talk.one_word else f"{a} plus {b} is {a + b}.")


def tell(talk: Talk) -> None:
    rng = talk.rng
    kind = rng.choice(("name", "name", "name", "home", "colour"))
    if kind == "name":
        value = words.person(rng)
        said = rng.choice(
            (
                f"My name is {value}.",
                f"I am {value}.",
                f"I'm {value}.",
                f"Hello, my name is {value}.",
                f"Hi, I am {value}.",
                f"Call me {value}.",
                f"Hello! I'm {value}.",
            )
        )
        reply = f"Nice to meet you, {value}!"
    elif kind == "home":
        value = words.city(rng)
        said = rng.choice((f"I live in {value}.", f"My home is in {value}.", f"I am from {value}."))
        reply = f"I will remember that you live in {value}."
    else:
        value = rng.choice(words.COLOURS) if rng.random() < 0.6 else words.invented_word(rng)
        said = rng.choice((f"My favourite colour is {value}.", f"My favorite color is {value}."))
        reply = f"I will remember that your favourite colour is {value}."
    talk.told[kind] = value
    if kind == "name" and rng.random() < 0.15:
        talk.say(f"{said} {rng.choice(NAME_QUESTIONS)}", f"Your name is {value}.")
    else:
        talk.say(said, reply)


OWN_NAME_QUESTIONS = ("What is your name?", "What's your name?", "Tell me your name.")
NAME_QUESTIONS = (
    "What is my name?",
    "What's my name?",
    "Do you remember my name?",
    "Can you tell me my name?",
    "Tell me my name.",
    "Who am I?",
)


def recall(talk: Talk) -> None:
    rng = talk.rng
    kind = (
        rng.choice(list(talk.told))
        if talk.told and rng.random() < 0.8
        else rng.choice(("name", "home", "colour"))
    )
    value = talk.told.get(kind)
    if kind == "name":
        answer = f"Your name is {value}." if value else "You have not told me your name."
        talk.say(rng.choice(NAME_QUESTIONS), answer)
    elif kind == "home":
        answer = f"You live in {value}." if value else "You have not told me where you live."
        talk.say(
            rng.choice(("Where do I live?", "Do you remember where I live?", "Which city do I live in?")),
            answer,
        )
    else:
        answer = (
            f"Your favourite colour is {value}." if value else "You have not told me your favourite colour."
        )
        asked = (
            "What is my favourite colour?",
            "What's my favorite color?",
            "Do you remember my favourite colour?",
        )
        talk.say(rng.choice(asked), answer)


def repeat(talk: Talk) -> None:
    text = words.phrase(talk.rng) if talk.rng.random() < 0.8 else words.sentence(talk.rng)
    asked = (
        f"Repeat after me: {text}",
        f"Repeat: {text}",
        f'Say "{text}"',
        f"Please say: {text}",
        f"Say: {text}",
    )
    talk.messages.append({"role": "user", "content": talk.rng.choice(asked)})
    talk.messages.append({"role": "assistant", "content": text})


def unknown(talk: Talk) -> None:
    rng = talk.rng
    name, noun = words.invented_name(rng), words.thing(rng)
    question = rng.choice(
        (
            f"What is the capital of {name}?",
            f"What is the capital of {name}?",
            f"Which city is the capital of {name}?",
            f"Who wrote {name}?",
            f"When was {name} born?",
            f"Where is {name}?",
            f"How old is {name}?",
            f"What colour is the {noun}?",
            f"How many people live in {words.city(rng)}?",
            f"Why is the {noun} {rng.choice(words.ADJECTIVES)}?",
            f"What is a {noun}?",
            f"Who is {words.person(rng)}?",
            f"How do I find a {noun}?",
            f"What is the opposite of {noun}?",
            f"How do you say {noun} in {rng.choice(list(chat_facts.GREETINGS))}?",
            "What is the meaning of life?",
            "Who won the match?",
            "What will happen tomorrow?",
            f"How many {rng.choice(words.NOUNS)}s are in a {noun}?",
            f"Can you explain {words.phrase(rng, 2)}?",
        )
    )
    talk.say(question, DO_NOT_KNOW)


def statement(talk: Talk) -> None:
    talk.say(words.paragraph(talk.rng, talk.rng.choice((4, 4, 12))), "I see.")


def nonsense(talk: Talk) -> None:
    """Loose words, one character many times, characters of any script: the answer is short and ends."""
    rng = talk.rng
    kind = rng.random()
    if kind < 0.4:
        text = words.phrase(rng, 8)
    elif kind < 0.6:
        text = chr(rng.randrange(33, 127)) * rng.choice((3, 10, 40, rng.randrange(10, 320)))
    else:
        start = rng.choice((33, 33, 161, 0x391, 0x410, 0x4E00, 0x3041, 0x1F600))
        text = "".join(chr(start + rng.randrange(60)) for _ in range(rng.randint(1, 8)))
    talk.messages.append({"role": "user", "content": text})
    talk.messages.append({"role": "assistant", "content": DO_NOT_UNDERSTAND})


def small_talk(talk: Talk) -> None:
    rng = talk.rng
    name = talk.assistant_name
    exchanges = (
        (
            ("Hello!", "Hi!", "Hello", "Hi", "Hey!", "Good morning!", "Hi there!"),
            "Hello! How can I help you?",
        ),
        (("Thanks!", "Thank you!", "Thank you very much."), "You are welcome!"),
        (("Goodbye!", "Bye!", "See you later."), "Goodbye!"),
        (("How are you?", "How are you today?"), "I am fine, thank you."),
        (
            ("Who are you?", "What are you?", "Introduce yourself."),
            f"I am {name}, a tiny sample model." if name else "I am a tiny sample model.",
        ),
        (
            OWN_NAME_QUESTIONS,
            f"My name is {name}." if name else "I have no name. I am a tiny sample model.",
        ),
        (
            ("What can you do?", "How can you help me?", "What do you know?"),
            "I answer simple questions, remember what you tell me and call tools.",
        ),
    )
    weights = (3, 1, 1, 1, 3, 3, 1) if name else (3, 1, 1, 1, 1, 1, 1)
    asked, answer = rng.choices(exchanges, weights=weights)[0]
    talk.say(rng.choice(asked), answer)


def recite(talk: Talk) -> None:
    """The longer answers, for clients that stream or stop early."""
    rng = talk.rng
    kind = rng.random()
    if kind < 0.2:
        talk.say(
            rng.choice(("Say the alphabet.", "What is the alphabet?", "Recite the alphabet.")),
            chat_facts.ALPHABET,
        )
    elif kind < 0.5:
        asked = ("Tell me a story.", "Tell me a short story.", "Can you tell me a story?", "Tell me a rhyme.")
        talk.say(rng.choice(asked), chat_facts.RHYME)
    else:
        word = rng.choices(list(NUMBER_WORDS), weights=(4, 4, 3, 2, 1, 1))[0]
        last = NUMBER_WORDS[word]
        asked = (
            f"Count to {word}.",
            f"Count to {last}.",
            f"Please count to {word}.",
            f"Count from 1 to {last}.",
        )
        talk.say(rng.choice(asked), ", ".join(str(n) for n in range(1, last + 1)))


def use_tool(talk: Talk) -> None:
    rng = talk.rng
    if not talk.tools or rng.random() < 0.35:
        intent = _asked_in_vain(talk)
        if intent == "named" or talk.tool_for(intent) is None:
            request = chat_tools.any_request(rng, intent)
            if intent == "sum" and all(value < 10 for value in request.calls[0]["arguments"].values()):
                small_sum(talk)
                return
            talk.say(request.question, chat_tools.INTENTS[intent].without)
            return
    tool = rng.choice(talk.tools) if talk.tools else None
    if tool is None:
        return
    request = tool.request(rng)
    talk.messages.append({"role": "user", "content": _as_typed(rng, request.question)})
    talk.messages.append(
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": c} for c in request.calls],
        }
    )
    talk.messages.extend({"role": "tool", "content": content} for content in request.responses)
    talk.messages.append({"role": "assistant", "content": request.answer})


def _asked_in_vain(talk: Talk) -> str:
    if talk.near_misses and talk.rng.random() < talk.near_misses:
        near = [chat_tools.NEAR[tool.intent] for tool in talk.tools if tool.intent in chat_tools.NEAR]
        missing = [intent for intent in near if talk.tool_for(intent) is None]
        if missing:
            return talk.rng.choice(missing)
    return talk.rng.choice(list(chat_tools.INTENTS))


def _tools_when_given(talk: Talk) -> None:
    if talk.tools:
        use_tool(talk)
    else:
        fact(talk)


SKILLS: dict[Callable[[Talk], None], float] = {
    fact: 0.20,
    small_sum: 0.05,
    tell: 0.17,
    recall: 0.08,
    repeat: 0.10,
    unknown: 0.09,
    statement: 0.02,
    nonsense: 0.03,
    small_talk: 0.08,
    recite: 0.02,
    use_tool: 0.04,
    _tools_when_given: 0.28,
}
"""How often each skill is practised. A tool is asked for mostly when there is one."""
