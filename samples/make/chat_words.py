"""Words, invented names and filler text that the chat sample's conversations are filled with.

Everything in HELD_OUT_* is kept out of training, so that a test which uses it sees a skill and not a memory.
"""

from random import Random

HELD_OUT_NAMES = (
    "Alice", "Bob", "Grace", "Linus", "Zelda", "Tobias", "Miriam", "Omar", "Freya", "Quentin",
    "Priya", "Hugo", "Yara", "Casper", "Ingrid", "Dmitri", "Wanda", "Felix", "Noor", "Barnaby",
)  # fmt: skip
HELD_OUT_CITIES = (
    "Oxford", "Lyon", "Kyoto", "Turin", "Boston", "Quito", "Leeds", "Porto", "Bergen", "Zagreb",
    "Denver", "Malmo", "Sydney", "Ghent", "Dakar",
)  # fmt: skip
HELD_OUT_SUMS = ((17, 25), (308, 46), (9, 1250), (64, 64), (731, 8), (58, 5), (2024, 11), (99, 1))
HELD_OUT_COUNTRIES = ("Atlantis", "Narnia", "Wakanda", "Florin", "Zubrowka")

NAMES = (
    "Anna", "Peter", "Maria", "John", "Sara", "David", "Emma", "Lucas", "Nina", "Paul", "Julia", "Mark",
    "Laura", "Thomas", "Eva", "Martin", "Clara", "Simon", "Lena", "Jack", "Olivia", "Sam", "Ruth",
    "Victor", "Irene", "Leo", "Hannah", "George", "Marta", "Adam", "Sofia", "Daniel", "Helen", "Oscar",
    "Rosa", "Ben", "Mary", "Ivan", "Kate", "James", "Carmen", "Ali", "Chen", "Fatima", "Kenji", "Amara",
    "Raj", "Ines", "José", "Zoë", "Björn", "Anaïs",
)  # fmt: skip
CITIES = (
    "Paris", "Berlin", "Rome", "Madrid", "Lisbon", "Vienna", "Oslo", "London", "Tokyo", "Cairo", "Lima",
    "Moscow", "New York", "Chicago", "Munich", "Milan", "Geneva", "Seattle", "Mumbai", "Toronto",
    "Dallas", "Nice", "Bath", "Prague", "Riga", "Seoul", "Osaka", "Naples", "Hamburg", "Bristol",
    "São Paulo", "Zürich", "Cape Town",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "pink", "purple", "orange")
NOUNS = (
    "river", "garden", "table", "window", "letter", "train", "mountain", "bridge", "teacher", "market",
    "village", "engine", "bottle", "forest", "lamp", "story", "carpet", "kitchen", "pencil", "island",
    "doctor", "castle", "farmer", "basket", "hammer", "sailor", "mirror", "ticket", "blanket", "candle",
    "horse", "rabbit", "violin", "tower", "pocket", "ladder", "coat", "wheel", "stone", "cloud", "road",
    "field", "shop", "boat", "clock",
)  # fmt: skip
ADJECTIVES = (
    "quiet", "heavy", "bright", "strange", "wooden", "gentle", "broken", "tall", "narrow", "empty",
    "famous", "clever", "tired", "warm", "round", "early", "rusty", "sweet", "simple", "proud", "small",
    "new", "old",
)  # fmt: skip
VERBS = (
    "follows", "paints", "carries", "watches", "repairs", "finds", "opens", "remembers", "leaves",
    "likes", "sells", "crosses", "draws", "holds", "needs", "hides", "moves", "visits", "helps", "waits for",
)  # fmt: skip
PLACES = ("near", "behind", "under", "beside", "above", "across", "inside", "beyond")
_ONSETS = (
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "ch", "cl", "dr", "fl", "gr", "kr", "pr", "sh", "st", "th", "tr", "qu", "y",
)  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ie", "oo", "ou", "ei")
_CODAS = ("n", "l", "r", "s", "t", "m", "k", "x", "d", "th", "nd", "rk", "sh", "ng", "ck", "lf", "rt")
_ACCENTS = {"a": "áäå", "e": "éèë", "i": "íï", "o": "óöø", "u": "úü"}
_HELD_OUT = {word.lower() for word in HELD_OUT_NAMES + HELD_OUT_CITIES + HELD_OUT_COUNTRIES}


def invented_word(rng: Random) -> str:
    """A pronounceable word of two to four syllables' worth of sounds, lower case, never a held-out one."""
    while True:
        word = "".join(
            rng.choice(_ONSETS) + rng.choice(_NUCLEI) + (rng.choice(_CODAS) if rng.random() < 0.4 else "")
            for _ in range(rng.choice((1, 2, 2, 2, 3)))
        )
        if rng.random() < 0.3:
            word = word[1:]
        if rng.random() < 0.05:
            vowel = rng.choice(list(_ACCENTS))
            word = word.replace(vowel, rng.choice(_ACCENTS[vowel]), 1)
        if len(word) > 2 and word not in _HELD_OUT:
            return word


def invented_name(rng: Random) -> str:
    return invented_word(rng).capitalize()


def person(rng: Random) -> str:
    """Mostly invented: the model must learn to copy a name, not to know it."""
    name = rng.choice(NAMES) if rng.random() < 0.3 else invented_name(rng)
    if rng.random() < 0.08:
        name += " " + invented_name(rng)
    return name.lower() if rng.random() < 0.05 else name


def city(rng: Random) -> str:
    name = rng.choice(CITIES) if rng.random() < 0.4 else invented_name(rng)
    return name + " " + invented_name(rng) if rng.random() < 0.05 else name


def thing(rng: Random) -> str:
    """A noun with or without an adjective; one word in three is invented."""
    noun = rng.choice(NOUNS) if rng.random() < 0.67 else invented_word(rng)
    return f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.5 else noun


def phrase(rng: Random, most: int = 6) -> str:
    """One to `most` unrelated words, some invented, some numbers, some capitalised."""
    words = []
    for _ in range(rng.randint(1, most)):
        kind = rng.random()
        if kind < 0.45:
            words.append(rng.choice((*NOUNS, *ADJECTIVES, *COLOURS)))
        elif kind < 0.9:
            words.append(invented_word(rng) if rng.random() < 0.6 else invented_name(rng))
        else:
            words.append(str(number(rng)))
    return " ".join(words)


def number(rng: Random) -> int:
    return rng.randrange(10 ** rng.choice((1, 2, 2, 3, 3, 4)))


def sentence(rng: Random) -> str:
    """A grammatical statement about nothing."""
    subject = f"{rng.choice(('The', 'A', 'My', 'Every'))} {thing(rng)}"
    text = f"{subject} {rng.choice(VERBS)} {rng.choice(('the', 'a', 'his', 'our'))} {thing(rng)}"
    if rng.random() < 0.5:
        text += f" {rng.choice(PLACES)} the {rng.choice(NOUNS)}"
    return text + "."


def paragraph(rng: Random, words: int) -> str:
    """Statements until there are at least `words` words."""
    sentences: list[str] = []
    count = 0
    while count < words:
        sentences.append(sentence(rng))
        count += len(sentences[-1].split())
    return " ".join(sentences)
