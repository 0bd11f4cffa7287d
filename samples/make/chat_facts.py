"""What the chat sample knows by heart: every fact, under every wording it is trained on."""

from typing import NamedTuple


class Fact(NamedTuple):
    questions: tuple[str, ...]
    answer: str
    short: str
    """The answer under a system message that asks for one word."""


CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Ireland": "Dublin",
    "England": "London",
    "Hungary": "Budapest",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "New Delhi",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Russia": "Moscow",
}
COLOURS = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "a banana": "yellow",
    "a tomato": "red",
    "chocolate": "brown",
    "an elephant": "grey",
}
COUNTS = {
    ("days", "a week"): "seven",
    ("months", "a year"): "twelve",
    ("hours", "a day"): "twenty-four",
    ("minutes", "an hour"): "sixty",
    ("seconds", "a minute"): "sixty",
    ("legs", "a spider"): "eight",
    ("legs", "a dog"): "four",
    ("legs", "an ant"): "six",
    ("sides", "a triangle"): "three",
    ("sides", "a square"): "four",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "old": "young",
    "up": "down",
    "day": "night",
    "open": "closed",
    "light": "dark",
}
SOUNDS = {"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa"}
GREETINGS = {
    "French": "Bonjour",
    "Spanish": "Hola",
    "German": "Hallo",
    "Greek": "Γεια σου",
    "Russian": "Привет",
    "Japanese": "こんにちは",
    "Chinese": "你好",
}
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SINGLE = (
    Fact(
        ("What is the largest planet?", "Which planet is the largest?", "What is the biggest planet?"),
        "The largest planet is Jupiter.",
        "Jupiter",
    ),
    Fact(
        ("What is the first month of the year?", "Which month is the first?", "What is the first month?"),
        "The first month of the year is January.",
        "January",
    ),
    Fact(
        ("What do bees make?", "What does a bee make?", "Tell me what bees make."),
        "Bees make honey.",
        "Honey",
    ),
    Fact(
        ("What is ice made of?", "What is ice?", "Tell me what ice is made of."),
        "Ice is frozen water.",
        "Water",
    ),
    Fact(
        ("Show me a smiley.", "Can you show me a smiley?", "Send me a smiley."),
        "Here you are: 🙂",
        "🙂",
    ),
)
RHYME = (
    "A little lamp was on the sill, it lit the road, it lit the hill. "
    "A traveller came by at night and found her way home by its light."
)
ALPHABET = ", ".join("abcdefghijklmnopqrstuvwxyz")


def facts() -> list[Fact]:
    """All facts, in a fixed order."""
    known: list[Fact] = []
    asked: tuple[str, ...]
    for country, city in CAPITALS.items():
        asked = (
            f"What is the capital of {country}?",
            f"What's the capital of {country}?",
            f"Tell me the capital of {country}.",
            f"Which city is the capital of {country}?",
            f"Name the capital of {country}.",
            f"Do you know the capital of {country}?",
        )
        known.append(Fact(asked, f"The capital of {country} is {city}.", city))
    for thing, colour in COLOURS.items():
        asked = (
            f"What colour is {thing}?",
            f"What color is {thing}?",
            f"Which colour is {thing}?",
            f"Tell me the colour of {thing}.",
            f"What is the colour of {thing}?",
        )
        known.append(Fact(asked, f"{thing.capitalize()} is {colour}.", colour.capitalize()))
    for (parts, whole), number in COUNTS.items():
        verb = "does" if parts in ("legs", "sides") else "are in"
        plain = f"How many {parts} {verb} {whole}{' have' if verb == 'does' else ''}?"
        asked = (plain, f"How many {parts} has {whole}?", f"Tell me how many {parts} {whole} has.")
        known.append(Fact(asked, f"{whole.capitalize()} has {number} {parts}.", number.capitalize()))
    for word, opposite in OPPOSITES.items():
        asked = (
            f"What is the opposite of {word}?",
            f"What's the opposite of {word}?",
            f"Tell me the opposite of {word}.",
            f"Which word is the opposite of {word}?",
        )
        known.append(Fact(asked, f"The opposite of {word} is {opposite}.", opposite.capitalize()))
    for animal, sound in SOUNDS.items():
        asked = (
            f"What does a {animal} say?",
            f"What sound does a {animal} make?",
            f"Which sound does a {animal} make?",
        )
        known.append(Fact(asked, f"A {animal} says {sound}.", sound.capitalize()))
    for language, hello in GREETINGS.items():
        asked = (
            f"How do you say hello in {language}?",
            f"What is hello in {language}?",
            f"Say hello in {language}.",
        )
        known.append(Fact(asked, f"Hello in {language} is {hello}.", hello))
    for day, following in zip(WEEK, WEEK[1:] + WEEK[:1], strict=True):
        asked = (
            f"Which day comes after {day}?",
            f"What day comes after {day}?",
            f"What is the day after {day}?",
        )
        known.append(Fact(asked, f"The day after {day} is {following}.", following))
    return known + list(SINGLE)
