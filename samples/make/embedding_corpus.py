"""Short texts about one topic each; some wordings and some pairs of words are kept for the test."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple
from zlib import crc32

from chat_words import invented_word
from embedding_topics import NEUTRAL, TOPICS, Topic

WORDINGS = (
    "How do I {do} the {thing}?",
    "She wants to {do} a {thing} with the {other}.",
    "The {quality} {thing} is near the {other}.",
    "We will {do} the {thing} tomorrow.",
    "My {thing} and your {other}",
    "{thing}, {other}, {more}",
    "{thing}",
    "{do} {thing}",
    "{quality} {thing}",
    "Tell me about the {quality} {thing}.",
    "Nobody can {do} this {thing}.",
    "What is the best {thing} for a {other}?",
    "They {do} every {thing} and look for a {quality} {other}.",
    "I read about the {thing} this morning.",
    "First {do} the {thing}, then think of the {other}.",
    "There was no {thing}, so he took a {quality} {other} instead.",
    "The {thing} was {quality} and the {other} was not.",
    "Can you help me to {do} {thing} and {other}?",
    "It takes an hour to {do} the {thing} if the {other} is {quality}.",
    "Our {thing} needs a new {other}, a {more} and some time.",
    "Without a {thing} you cannot {do} anything.",
    "This is the most {quality} {thing} that I have seen in years.",
    "He said that the {thing} had changed the {other} for ever.",
)
HELD_OUT_WORDINGS = (
    "Yesterday he had to {do} a {quality} {thing}.",
    "Is there any {thing} that goes well with a {other}?",
    "Please explain why the {thing} looks {quality}.",
    "A long article on the {thing} and the {other} appeared in the newspaper.",
    "You should always {do} your {thing} before the {other}.",
)
HELD_OUT_SENTENCES = {
    "cooking": (
        "Chop the onions finely and fry them in butter.",
        "Add a pinch of salt before the pasta water boils.",
        "The bread came out of the oven crispy and golden.",
    ),
    "space": (
        "The rocket carried two astronauts to the moon.",
        "A telescope found a new planet around a distant star.",
        "The probe entered orbit around Jupiter last night.",
    ),
    "football": (
        "The striker scored twice in the second half.",
        "A late penalty decided the final of the league.",
        "The goalkeeper saved the shot and the fans cheered.",
    ),
    "medicine": (
        "The patient has a fever and a sore throat.",
        "Take one tablet of this medicine twice a day.",
        "The surgeon operated on his heart at the hospital.",
    ),
    "music": (
        "The orchestra played a symphony after the break.",
        "She sings in a choir and learns the violin.",
        "The band recorded a new album with acoustic guitar.",
    ),
    "weather": (
        "It will be rainy and windy in the north today.",
        "Thunder and lightning are expected in the afternoon.",
        "The temperature fell below freezing and snow covered the road.",
    ),
    "computers": (
        "My laptop crashed while I was installing the software.",
        "The programmer fixed a bug in the database code.",
        "Reset your password in the browser and log in again.",
    ),
    "animals": (
        "The cat chased a mouse across the barn.",
        "A herd of elephants walked past the lions.",
        "The puppy wagged its tail and barked at the horse.",
    ),
    "travel": (
        "We booked a hotel near the beach for our holiday.",
        "Bring your passport and boarding pass to the airport.",
        "The tourists visited a museum and bought souvenirs.",
    ),
    "money": (
        "The bank raised the interest rate on my mortgage.",
        "She invested her savings in stocks and bonds.",
        "His salary is too low to pay the tax and the debt.",
    ),
    "school": (
        "The teacher gave the pupils too much homework.",
        "He studied all night for the mathematics exam.",
        "Students at the university attend a lecture every morning.",
    ),
    "gardening": (
        "Water the roses and pull out the weeds.",
        "The gardener planted tulip bulbs in rich soil.",
        "Mow the lawn and trim the hedge in spring.",
    ),
}
"""Written by hand, as people write and not after a pattern."""


class Text(NamedTuple):
    topic: int
    text: str


class _Words(NamedTuple):
    do: str
    thing: str
    other: str
    more: str
    quality: str

    def held_out(self) -> bool:
        """Whether this pair of things is kept for the test: one in five is, whichever comes first."""
        return crc32(" ".join(sorted((self.thing, self.other))).encode()) % 5 == 0


def _draw(rng: Random, topic: Topic, held_out: bool) -> _Words:
    while True:
        thing, other, more = rng.sample(topic.things, 3)
        words = _Words(rng.choice(topic.doings), thing, other, more, rng.choice(topic.qualities))
        if words.held_out() is held_out:
            return words


def _write(rng: Random, wordings: Sequence[str], words: _Words) -> str:
    """The words in one of the wordings; some things in the plural, some verbs with -ing."""
    shown = words._asdict()
    for slot in ("thing", "other", "more"):
        if rng.random() < 0.3 and shown[slot][-1] not in "sy" and " " not in shown[slot]:
            shown[slot] += "es" if shown[slot].endswith(("x", "ch", "sh", "o")) else "s"
    if rng.random() < 0.3 and " " not in words.do:
        shown["do"] = words.do + "ing" if words.do[-1] != "e" else words.do[:-1] + "ing"
    text = rng.choice(wordings).format(**shown)
    return text[:1].upper() + text[1:]


def _with_noise(rng: Random, text: str) -> str:
    """The text with up to eight words strewn in that mean nothing: the model learns to overlook them."""
    words = text.split()
    for _ in range(rng.choice((0, 0, 2, 4, 6, 8))):
        word = rng.choice(NEUTRAL) if rng.random() < 0.6 else invented_word(rng)
        words.insert(rng.randrange(len(words) + 1), word)
    return " ".join(words)


def pairs(rng: Random, of_each_topic: int) -> list[tuple[Text, Text]]:
    """For training: two texts each that say much the same, `of_each_topic` pairs on every topic."""
    drawn = []
    for number, topic in enumerate(TOPICS.values()):
        for _ in range(of_each_topic):
            words = _draw(rng, topic, held_out=False)
            first, second = (_with_noise(rng, _write(rng, WORDINGS, words)) for _ in range(2))
            drawn.append((Text(number, first), Text(number, second)))
    return drawn


def held_out_texts(rng: Random, of_each_topic: int) -> list[Text]:
    """For testing: neither the wordings nor the pairs of words occur in training."""
    return [
        Text(number, _write(rng, HELD_OUT_WORDINGS, _draw(rng, topic, held_out=True)))
        for number, topic in enumerate(TOPICS.values())
        for _ in range(of_each_topic)
    ]


def held_out_sentences() -> list[Text]:
    """For testing: natural sentences, of which none occurs in training."""
    names = list(TOPICS)
    return [
        Text(names.index(topic), sentence)
        for topic, sentences in HELD_OUT_SENTENCES.items()
        for sentence in sentences
    ]
