"""Questions to a running stack, asked once, or all the time beside what is done to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import openai

CAPITAL = "What is the capital of France?"


def ask(client: openai.OpenAI, model: str | None, question: str = CAPITAL) -> str:
    """The answer of a model, or of the default one; the client insists on a model, and \"\" names none."""
    answer = client.chat.completions.create(
        model=model or "",
        messages=[{"role": "user", "content": question}],
        temperature=0,
    )
    return answer.choices[0].message.content or ""


@contextmanager
def asking_all_the_time(client: openai.OpenAI, model: str | None) -> Iterator[list[str]]:
    """What came back of one question after the other, asked beside the block."""
    answers: list[str] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            try:
                answers.append(ask(client, model))
            except openai.OpenAIError as error:
                answers.append(repr(error))

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()
