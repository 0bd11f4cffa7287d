"""The topics that the embedding sample tells apart, and the words each is written with."""

from typing import NamedTuple


class Topic(NamedTuple):
    things: tuple[str, ...]
    doings: tuple[str, ...]
    """Verbs that take a thing."""
    qualities: tuple[str, ...]


def _words(listed: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in listed.split(","))


def _topic(things: str, doings: str, qualities: str) -> Topic:
    return Topic(_words(things), _words(doings), _words(qualities))


TOPICS = {
    "cooking": _topic(
        "soup, bread, dough, oven, pan, pot, onion, garlic, tomato, potato, pepper, salt, sugar, butter, "
        "flour, egg, cheese, recipe, kitchen, chef, cook, sauce, pasta, rice, cake, pie, salad, knife, "
        "spoon, bowl, plate, dinner, lunch, breakfast, meal, vegetable, carrot, mushroom, lemon, herb, "
        "basil, olive oil, cream, stew, steak, chocolate, cookie, pancake, dessert, ingredient, spice, "
        "yeast, beans, noodles, vinegar, honey",
        "bake, boil, fry, roast, stir, chop, slice, taste, season, simmer, grill, mix, peel, knead, "
        "serve, eat, whisk",
        "delicious, salty, spicy, crispy, sweet, sour, tasty, baked, fried, roasted, juicy, creamy",
    ),
    "space": _topic(
        "planet, star, galaxy, rocket, moon, comet, asteroid, orbit, telescope, astronaut, satellite, "
        "spacecraft, nebula, black hole, supernova, sun, Mars, Jupiter, Saturn, Venus, meteor, space "
        "station, launch pad, crater, astronomer, universe, cosmos, gravity, spacesuit, solar system, "
        "Milky Way, eclipse, rover, probe, lander, constellation, light year, observatory, capsule, "
        "shuttle, solar wind, exoplanet, moon rock, space agency",
        "orbit, launch, observe, discover, land on, explore, detect, photograph, approach, circle",
        "distant, lunar, solar, stellar, cosmic, interstellar, weightless, orbital, galactic, astronomical",
    ),
    "football": _topic(
        "goal, ball, striker, goalkeeper, referee, penalty, team, match, league, coach, stadium, "
        "midfielder, defender, free kick, corner kick, offside, red card, yellow card, cup, final, "
        "championship, season, pitch, half time, header, pass, tackle, captain, supporter, fan, whistle, "
        "jersey, score, winger, transfer, tournament, draw, victory, defeat, crossbar, dressing room, "
        "substitute, penalty area, extra time, world cup, football boots",
        "kick, score, tackle, dribble, shoot, defend, win, lose, pass, head, substitute, train, cheer for",
        "offensive, unbeaten, defensive, winning, losing, qualified, injured, athletic, first-half, sold-out",
    ),
    "medicine": _topic(
        "doctor, nurse, patient, hospital, fever, cough, medicine, pill, vaccine, surgery, surgeon, "
        "disease, infection, symptom, treatment, clinic, heart, lung, blood, blood pressure, virus, "
        "bacteria, antibiotic, headache, bandage, wound, injection, diagnosis, prescription, pharmacy, "
        "therapy, allergy, asthma, diabetes, cancer, ambulance, x-ray, flu, stomach ache, pain, dose, "
        "tablet, kidney, liver, bone fracture, recovery, throat",
        "treat, cure, diagnose, vaccinate, prescribe, examine, heal, inject, bandage, operate on, swallow",
        "sick, ill, healthy, infected, chronic, medical, contagious, painful, feverish, surgical, clinical",
    ),
    "music": _topic(
        "guitar, piano, violin, drum, song, melody, rhythm, concert, orchestra, band, singer, choir, "
        "chord, trumpet, flute, cello, composer, symphony, album, lyrics, note, tune, harmony, "
        "microphone, stage, conductor, opera, jazz, blues, rock band, musician, saxophone, bass, "
        "keyboard, chorus, ballad, sonata, tempo, audience, rehearsal, record, playlist, duet, solo, "
        "harp, pianist, drummer, loudspeaker",
        "play, sing, compose, record, tune, hum, conduct, rehearse, listen to, perform, strum",
        "musical, melodic, acoustic, loud, rhythmic, harmonic, classical, out of tune, catchy, orchestral",
    ),
    "weather": _topic(
        "rain, snow, storm, wind, cloud, sunshine, thunder, lightning, fog, hail, temperature, forecast, "
        "hurricane, tornado, breeze, frost, drizzle, shower, heat wave, rainbow, humidity, umbrella, "
        "blizzard, sky, degree, climate, drought, flood, mist, gust, snowfall, downpour, thermometer, "
        "barometer, cold front, sunset, ice, summer heat, winter morning, raindrop, weather report, "
        "thunderstorm, puddle, snowflake",
        "forecast, predict, measure, expect, freeze, melt, soak, chill, blow away, warm",
        "rainy, sunny, cloudy, windy, foggy, stormy, snowy, humid, freezing, chilly, icy, mild, overcast",
    ),
    "computers": _topic(
        "computer, laptop, keyboard shortcut, software, program, code, bug, server, database, network, "
        "file, folder, screen, processor, memory, hard disk, browser, website, password, algorithm, "
        "compiler, programmer, developer, operating system, internet, router, app, download, backup, "
        "function, variable, loop, Python script, API, cloud server, data center, cable, mouse pointer, "
        "printer driver, login, firewall, byte, graphics card, command line, repository, unit test, web "
        "page, email server, virtual machine",
        "install, debug, compile, download, upload, reboot, encrypt, program, delete, update, code, hack, "
        "deploy",
        "digital, encrypted, offline, online, wireless, virtual, buggy, binary, portable, automated",
    ),
    "animals": _topic(
        "dog, cat, horse, cow, sheep, pig, goat, rabbit, lion, tiger, elephant, giraffe, monkey, bear, "
        "wolf, fox, deer, bird, eagle, owl, parrot, duck, penguin, fish, shark, whale, dolphin, snake, "
        "frog, turtle, lizard, spider, bee, butterfly, ant, zoo, puppy, kitten, fur, tail, paw, feather, "
        "nest, claw, herd, wildlife, zebra, kangaroo, squirrel, mouse, hamster, beak, hoof, mammal, "
        "reptile, farm animal",
        "feed, pet, hunt, chase, breed, tame, groom, bite, adopt, milk, ride",
        "wild, furry, tame, hungry, feathered, barking, striped, nocturnal, venomous, endangered",
    ),
    "travel": _topic(
        "airport, flight, hotel, passport, suitcase, train station, ticket, beach, tourist, map, guide, "
        "museum, journey, trip, holiday, vacation, luggage, visa, airplane, boarding pass, hostel, "
        "souvenir, destination, itinerary, cruise, island, road trip, rental car, backpack, border, "
        "embassy, sightseeing tour, resort, campsite, ferry, platform, departure, arrival, travel agency, "
        "postcard, landmark, city tour, window seat, check-in desk",
        "book, visit, pack, board, travel to, explore, tour, leave for, reserve, cancel",
        "foreign, abroad, scenic, tropical, remote, touristic, delayed, overseas, historic, first-class",
    ),
    "money": _topic(
        "bank, loan, credit card, interest rate, mortgage, budget, salary, tax, stock, share, investor, "
        "investment, dividend, debt, account, savings, coin, banknote, dollar, euro, currency, inflation, "
        "profit, loss, price, market crash, broker, bond, fund, pension, insurance, invoice, payment, "
        "fee, wage, accountant, economy, exchange rate, cash, wallet, income, revenue, shareholder, "
        "deposit, cheque, bankruptcy, auditor",
        "invest in, borrow, lend, pay, save, spend, earn, withdraw, deposit, finance, tax, owe",
        "expensive, cheap, profitable, financial, wealthy, bankrupt, economic, annual, taxable, rich, poor",
    ),
    "school": _topic(
        "teacher, student, pupil, classroom, lesson, homework, exam, grade, textbook, university, "
        "college, lecture, professor, essay, blackboard, diploma, degree course, scholarship, "
        "kindergarten, spelling, mathematics, history class, geography, chemistry lesson, library book, "
        "notebook, pencil case, school bus, headmaster, curriculum, semester, quiz, test paper, tutor, "
        "classmate, education, dictionary, graduation, campus, algebra, grammar, seminar, school year, "
        "report card",
        "teach, learn, study, grade, memorise, enrol in, graduate from, lecture on, revise, recite",
        "educational, academic, studious, graduated, literate, scholarly, attentive, absent, tutored",
    ),
    "gardening": _topic(
        "garden, flower, rose, tulip, seed, soil, lawn, shovel, rake, watering can, greenhouse, hedge, "
        "tree, branch, leaf, root, compost, fertiliser, weed, gardener, orchid, daisy, sunflower, flower "
        "pot, flower bed, shrub, ivy, oak, apple tree, pruning shears, lawn mower, bulb, seedling, "
        "blossom, petal, stem, orchard, mulch, wheelbarrow, cactus, fern, vine, bush, plant, lavender, "
        "moss",
        "plant, water, prune, mow, weed, grow, sow, dig, harvest, trim, fertilise, rake",
        "blooming, leafy, green, withered, evergreen, thorny, fragrant, overgrown, planted, potted",
    ),
}
NEUTRAL = _words(
    "a, about, after, again, all, almost, also, although, an, and, another, any, anyone, are, around, "
    "as, ask, at, back, be, because, become, been, before, began, being, believe, between, both, bring, "
    "but, by, call, came, can, certain, come, could, did, different, do, does, down, during, each, "
    "early, either, else, end, enough, even, ever, everyone, everything, fact, few, for, friend, from, "
    "gave, get, give, go, good, great, had, half, has, have, he, her, here, him, his, how, however, i, "
    "if, important, in, into, is, it, its, just, keep, kind, knew, know, large, last, late, later, "
    "least, leave, less, let, life, like, little, long, lot, made, make, man, many, matter, maybe, me, "
    "mean, might, more, most, much, must, my, name, need, never, next, nice, nothing, now, of, off, "
    "often, on, once, one, only, or, our, out, over, own, part, people, perhaps, person, place, point, "
    "put, quite, rather, really, right, said, same, saw, say, see, seem, several, she, should, show, "
    "side, simply, since, small, so, some, someone, something, soon, still, such, sure, take, tell, "
    "than, that, the, their, them, then, there, these, they, thing, think, those, though, thought, "
    "three, through, time, to, today, together, told, too, took, turn, two, under, until, up, us, use, "
    "used, usually, very, want, was, way, we, week, well, went, were, what, when, where, whether, "
    "which, while, who, whole, why, will, with, without, woman, word, work, would, year, yes, yet, you, "
    "your"
)
"""Words that say nothing about a topic."""
