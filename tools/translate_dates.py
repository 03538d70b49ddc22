"""Dates and times as people write them in English, German and French, and what they are in ISO 8601.

A text is a *combination* of formats (language, date, year, weekday, time, order) filled with a moment.
One combination in eight, chosen by its name, is held out: training never sees it, though it sees each
of its formats in other company.

Where a text has two readings there is a rule:

- numeric dates are day, month, year, in all three languages; year, month, day with four digits first;
- a year of two digits is 2000 to 2049 or 1950 to 1999;
- an hour without am, pm or a part of the day is the hour as it is said: "halb vier" is 03:30, "twelve
  o'clock" 12:00, "quarter to one" 00:45;
- a weekday is read over, whatever the date.
"""

import datetime
import zlib
from dataclasses import dataclass
from random import Random
from typing import Callable

LONGEST = 64  # characters of a text
HELD_OUT_OF = 8

MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}
SHORT_MONTHS = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep|Sept Oct Nov Dec",
    "de": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sep.|Sept. Okt. Nov. Dez.",
    "fr": "janv. févr.|fév. mars avr. mai juin juil. août sept. oct. nov. déc.",
}
WEEKDAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag|Sonnabend Sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
}
SHORT_WEEKDAYS = {
    "en": "Mon Tue|Tues Wed Thu|Thurs Fri Sat Sun",
    "de": "Mo Di Mi Do Fr Sa So",
    "fr": "lun. mar. mer. jeu. ven. sam. dim.",
}
# One to twelve, as hours; then to thirty-one where days are said in words.
HOURS = {
    "en": "one two three four five six seven eight nine ten eleven twelve",
    "de": "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "fr": "une deux trois quatre cinq six sept huit neuf dix onze douze",
}
DAY_WORDS = {
    "en": "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first "
    "twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh twenty-eighth "
    "twenty-ninth thirtieth thirty-first",
    "de": "erste zweite dritte vierte fünfte sechste siebte achte neunte zehnte elfte zwölfte dreizehnte "
    "vierzehnte fünfzehnte sechzehnte siebzehnte achtzehnte neunzehnte zwanzigste einundzwanzigste "
    "zweiundzwanzigste dreiundzwanzigste vierundzwanzigste fünfundzwanzigste sechsundzwanzigste "
    "siebenundzwanzigste achtundzwanzigste neunundzwanzigste dreißigste einunddreißigste",
    "fr": "premier deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize "
    "dix-sept dix-huit dix-neuf vingt vingt-et-un vingt-deux vingt-trois vingt-quatre vingt-cinq "
    "vingt-six vingt-sept vingt-huit vingt-neuf trente trente-et-un",
}
MINUTES = {
    "en": {5: "five", 10: "ten", 20: "twenty", 25: "twenty-five"},
    "de": {5: "fünf", 10: "zehn", 20: "zwanzig"},
    "fr": {5: "cinq", 10: "dix", 20: "vingt", 25: "vingt-cinq"},
}


def word(words: str, index: int, random: Random) -> str:
    """The index-th of `words`, one of its spellings."""
    return random.choice(words.split(" ")[index].split("|"))


@dataclass(frozen=True)
class Format:
    """How one part of a text is written. `write(moment, random)` gives None where it cannot be."""

    name: str
    write: Callable


@dataclass(frozen=True)
class Combination:
    """The formats of a text; date or time may be missing."""

    language: str
    date: Format | None
    year: str
    weekday: str
    time: Format | None
    order: str

    @property
    def name(self) -> str:
        parts = (self.date, self.time)
        date, time = (part.name if part else "-" for part in parts)
        return "/".join((self.language, date, self.year, self.weekday, time, self.order))

    @property
    def held_out(self) -> bool:
        return zlib.crc32(self.name.encode()) % HELD_OUT_OF == 0


def ordinal(day: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    return f"{day}{suffix}"


def date_formats(language: str) -> list[Format]:
    """Formats of day and month, with {y} where the year goes."""

    def month(m, r):
        return word(MONTHS[language], m.month - 1, r)

    def short(m, r):
        name = word(SHORT_MONTHS[language], m.month - 1, r)
        return name if r.random() < 0.8 else name.removesuffix(".")

    def day_word(m):
        return DAY_WORDS[language].split(" ")[m.day - 1]

    numeric = [
        Format("d/m/y", lambda m, r: f"{m.day}/{m.month}/{{y}}"),
        Format("dd/mm/y", lambda m, r: f"{m.day:02}/{m.month:02}/{{y}}"),
        Format("d.m.y", lambda m, r: f"{m.day}.{m.month}.{{y}}"),
        Format("dd.mm.y", lambda m, r: f"{m.day:02}.{m.month:02}.{{y}}"),
        Format("dd-mm-y", lambda m, r: f"{m.day:02}-{m.month:02}-{{y}}"),
        Format("iso", lambda m, r: f"{m.year}-{m.month:02}-{m.day:02}"),
    ]
    return numeric + {
        "en": [
            Format("the 3rd of November", lambda m, r: f"the {ordinal(m.day)} of {month(m, r)} {{y}}"),
            Format("the 3rd of November,", lambda m, r: f"the {ordinal(m.day)} of {month(m, r)}, {{y}}"),
            Format("3rd November", lambda m, r: f"{ordinal(m.day)} {month(m, r)} {{y}}"),
            Format("3 November", lambda m, r: f"{m.day} {month(m, r)} {{y}}"),
            Format("3 Nov", lambda m, r: f"{m.day} {short(m, r)} {{y}}"),
            Format("3-Nov-", lambda m, r: f"{m.day}-{short(m, r)}-{{y}}"),
            Format("November 3,", lambda m, r: f"{month(m, r)} {m.day}, {{y}}"),
            Format("November 3rd,", lambda m, r: f"{month(m, r)} {ordinal(m.day)}, {{y}}"),
            Format("Nov 3,", lambda m, r: f"{short(m, r)} {m.day}, {{y}}"),
            Format("Nov. 3rd,", lambda m, r: f"{short(m, r)}. {ordinal(m.day)}, {{y}}"),
            Format("the third of November", lambda m, r: f"the {day_word(m)} of {month(m, r)} {{y}}"),
            Format("third of Nov", lambda m, r: f"{day_word(m)} of {short(m, r)} {{y}}"),
        ],
        "de": [
            Format("3. November", lambda m, r: f"{m.day}. {month(m, r)} {{y}}"),
            Format("03. November", lambda m, r: f"{m.day:02}. {month(m, r)} {{y}}"),
            Format("den 3. November", lambda m, r: f"{r.choice(('den', 'am', 'der'))} {m.day}. {month(m, r)} {{y}}"),
            Format("3. Nov.", lambda m, r: f"{m.day}. {short(m, r)} {{y}}"),
            Format("3.Nov.", lambda m, r: f"{m.day}.{short(m, r)}{{y}}"),
            Format("den 3. Nov.", lambda m, r: f"den {m.day}. {short(m, r)} {{y}}"),
            Format("3. 11.", lambda m, r: f"{m.day}. {m.month}. {{y}}"),
            Format("dritter November", lambda m, r: f"{day_word(m)}r {month(m, r)} {{y}}"),
            Format("am dritten November", lambda m, r: f"{r.choice(('am', 'den'))} {day_word(m)}n {month(m, r)} {{y}}"),
        ],
        "fr": [
            Format("3 novembre", lambda m, r: f"{french_day(m)} {month(m, r)} {{y}}"),
            Format("le 3 novembre", lambda m, r: f"le {french_day(m)} {month(m, r)} {{y}}"),
            Format("3 nov.", lambda m, r: f"{french_day(m)} {short(m, r)} {{y}}"),
            Format("le 3 nov.", lambda m, r: f"le {french_day(m)} {short(m, r)} {{y}}"),
            Format("03 novembre", lambda m, r: f"{m.day:02} {month(m, r)} {{y}}"),
            Format("le trois novembre", lambda m, r: f"le {day_word(m)} {month(m, r)} {{y}}"),
            Format("trois nov.", lambda m, r: f"{day_word(m)} {short(m, r)} {{y}}"),
        ],
    }[language]


def french_day(moment) -> str:
    return "1er" if moment.day == 1 else str(moment.day)


def spoken_hour(language: str, hour: int) -> str:
    """An hour of 0 to 24 on a clock of twelve, in words."""
    return HOURS[language].split(" ")[(hour - 1) % 12]


def part_of_day(language: str, moment) -> str:
    """Words that make a spoken hour one of 24."""
    names = {
        "en": ("in the morning", "in the afternoon", "in the evening"),
        "de": ("morgens", "nachmittags", "abends"),
        "fr": ("du matin", "de l'après-midi", "du soir"),
    }[language]
    return names[0 if moment.hour < 12 else 1 if moment.hour < 18 else 2]


def said(language: str, moment) -> str | None:
    """A time of whole five minutes in words, its hour on a clock of twelve."""
    hour, minute = moment.hour, moment.minute
    this, following = spoken_hour(language, hour), spoken_hour(language, hour + 1)
    minutes = MINUTES[language]
    if language == "en":
        if minute == 0:
            return f"{this} o'clock"
        if minute == 30:
            return f"half past {this}"
        past, left = {15: "quarter", **minutes}.get(minute), {15: "quarter", **minutes}.get(60 - minute)
        return f"{past} past {this}" if past else f"{left} to {following}" if left else None
    if language == "de":
        if minute == 0:
            return f"{'ein' if this == 'eins' else this} Uhr"
        for offset, way in ((-5, "fünf vor halb"), (0, "halb"), (5, "fünf nach halb")):
            if minute == 30 + offset:
                return f"{way} {following}"
        past, left = {15: "Viertel", **minutes}.get(minute), {15: "Viertel", **minutes}.get(60 - minute)
        return f"{past} nach {this}" if past else f"{left} vor {following}" if left else None
    hours = [f"{name} heure{'' if name == 'une' else 's'}" for name in (this, following)]
    if minute == 0:
        return hours[0]
    past = {15: "et quart", 30: "et demie", **minutes}.get(minute)
    left = {15: "le quart", **minutes}.get(60 - minute)
    return f"{hours[0]} {past}" if past else f"{hours[1]} moins {left}" if left else None


def time_formats(language: str) -> list[Format]:
    def said_alone(m, r):
        # Without a part of the day the hour is the one that is said: 01 to 12 in its nearest hour.
        hour = m.hour if m.minute < 25 or language != "de" and m.minute <= 30 else m.hour + 1
        return said(language, m) if 1 <= hour <= 12 else None

    def said_with_part(m, r):
        text = said(language, m) if m.hour > 0 else None
        return text and f"{text} {part_of_day(language, m)}"

    def on_the_hour(text):
        return lambda m, r: text(m) if m.minute == 0 else None

    def twelve(m):
        return (m.hour - 1) % 12 + 1

    def at(hour, *names):
        return lambda m, r: r.choice(names) if (m.hour, m.minute) == (hour, 0) else None

    pm = {False: ("am", "a.m."), True: ("pm", "p.m.")}
    common = [
        Format("16:15", lambda m, r: f"{m.hour:02}:{m.minute:02}"),
        Format("4:15", lambda m, r: f"{m.hour}:{m.minute:02}"),
        Format("said", said_alone),
        Format("said, part of day", said_with_part),
    ]
    return common + {
        "en": [
            Format("4:15 pm", lambda m, r: f"{twelve(m)}:{m.minute:02} {r.choice(pm[m.hour > 11])}"),
            Format("4.15pm", lambda m, r: f"{twelve(m)}.{m.minute:02}{pm[m.hour > 11][0]}"),
            Format("4 pm", on_the_hour(lambda m: f"{twelve(m)} {pm[m.hour > 11][0]}")),
            Format("4pm", on_the_hour(lambda m: f"{twelve(m)}{pm[m.hour > 11][0]}")),
            Format("noon", at(12, "noon", "midday")),
            Format("midnight", at(0, "midnight")),
        ],
        "de": [
            Format("16:15 Uhr", lambda m, r: f"{m.hour}:{m.minute:02} Uhr"),
            Format("16.15 Uhr", lambda m, r: f"{m.hour}.{m.minute:02} Uhr"),
            Format("16 Uhr 15", lambda m, r: f"{m.hour} Uhr {m.minute}" if m.minute else None),
            Format("16 Uhr", on_the_hour(lambda m: f"{m.hour} Uhr")),
            Format("mittags", at(12, "zwölf Uhr mittags", "Mittag", "12 Uhr mittags")),
            Format("Mitternacht", at(0, "Mitternacht")),
        ],
        "fr": [
            Format("16h15", lambda m, r: f"{m.hour}h{m.minute:02}"),
            Format("16 h 15", lambda m, r: f"{m.hour} h {m.minute:02}"),
            Format("16 heures 15", lambda m, r: f"{m.hour} heure{'s' * (m.hour > 1)} {m.minute}" if m.minute else None),
            Format("16h", on_the_hour(lambda m: f"{m.hour}h")),
            Format("16 heures", on_the_hour(lambda m: f"{m.hour} heure{'s' * (m.hour > 1)}")),
            Format("midi", at(12, "midi")),
            Format("minuit", at(0, "minuit")),
        ],
    }[language]


LANGUAGES = ("en", "de", "fr")
DATES = {language: date_formats(language) for language in LANGUAGES}
TIMES = {language: time_formats(language) for language in LANGUAGES}
# Joins of date and time, and of time and date.
JOINS = {
    "date first": {"en": (" at ", ", at ", ", ", " "), "de": (" um ", ", um ", ", ", " "), "fr": (" à ", ", à ", ", ", " ")},
    "time first": {"en": (" on ", ", ", " "), "de": (", ", " am ", " "), "fr": (", ", " le ", " ")},
}


def draw_combination(random: Random) -> Combination:
    language = random.choice(LANGUAGES)
    kind = random.choices(("date", "both", "time"), (35, 55, 10))[0]
    date = random.choice(DATES[language]) if kind != "time" else None
    time = random.choice(TIMES[language]) if kind != "date" else None
    if not date:
        return Combination(language, None, "-", "-", time, "-")
    year = "2026" if date.name == "iso" else random.choices(("2026", "26", "'26"), (60, 30, 10))[0]
    weekday = random.choices(("-", "full", "short"), (50, 30, 20))[0]
    order = random.choices(("date first", "time first"), (75, 25))[0] if time else "-"
    return Combination(language, date, year, weekday, time, order)


def draw_moment(combination: Combination, random: Random) -> datetime.datetime:
    first, last = (1950, 2049) if combination.year in ("26", "'26") or random.random() < 0.7 else (1900, 2099)
    days = datetime.date(first, 1, 1).toordinal(), datetime.date(last, 12, 31).toordinal()
    day = datetime.date.fromordinal(random.randint(*days))
    special = combination.time and combination.time.name
    if special in ("noon", "midnight", "mittags", "Mitternacht", "midi", "minuit"):
        hour, minute = (12 if special in ("noon", "mittags", "midi") else 0), 0
    else:
        hour = random.randrange(24)
        minute = random.choice((random.randrange(60), 5 * random.randrange(12), 15 * random.randrange(4), 0))
    return datetime.datetime(day.year, day.month, day.day, hour, minute)


def write_date(combination: Combination, moment, random: Random) -> str:
    year = f"{moment.year}" if combination.year == "2026" else f"{moment.year % 100:02}"
    if combination.year == "'26":
        year = f"'{year}"
    date = combination.date.write(moment, random).replace("{y}", year)
    if combination.weekday == "-":
        return date
    names = WEEKDAYS if combination.weekday == "full" else SHORT_WEEKDAYS
    weekday = word(names[combination.language], moment.weekday(), random)
    separators = {"en": (", ", " "), "de": (", ", " "), "fr": (" ", ", ")}[combination.language]
    if combination.language == "de" and combination.date.name[0].isdigit() and random.random() < 0.2:
        return f"{weekday}, {random.choice(('den', 'dem', 'der'))} {date}"
    return f"{weekday}{random.choice(separators)}{date}"


def respell(text: str, language: str, random: Random) -> str:
    """As people in a hurry write: without accents, in small letters or in capitals."""
    if random.random() < 0.08:
        pairs = {"de": ("ä:ae", "ö:oe", "ü:ue", "ß:ss"), "fr": ("é:e", "è:e", "û:u", "à:a")}.get(language, ())
        for accented, plain in (pair.split(":") for pair in pairs):
            text = text.replace(accented, plain)
    case = random.random()
    return text.lower() if case < 0.1 else text.upper() if case < 0.15 else text


def fill(combination: Combination, random: Random) -> tuple[str, str] | None:
    """A text of the combination and its translation, or None where this moment has none."""
    moment = draw_moment(combination, random)
    language = combination.language
    time = combination.time.write(moment, random) if combination.time else None
    if combination.time and time is None:
        return None
    date = write_date(combination, moment, random) if combination.date else None
    if date is None:
        opening = {"en": ("at ", ""), "de": ("um ", ""), "fr": ("à ", "")}[language]
        text, iso = random.choice(opening) + time, f"{moment:%H:%M}"
    elif time is None:
        text, iso = date, f"{moment:%Y-%m-%d}"
    else:
        join = random.choice(JOINS[combination.order][language])
        pair = (date, time) if combination.order == "date first" else (time, date)
        text, iso = join.join(pair), f"{moment:%Y-%m-%dT%H:%M}"
    text = respell(text, language, random)
    return (text, iso) if len(text) <= LONGEST else None


def draw(random: Random, held_out: bool) -> tuple[str, str]:
    """A text and its translation, of a combination that is held out or of one that is not."""
    while True:
        combination = draw_combination(random)
        if combination.held_out == held_out and (pair := fill(combination, random)):
            return pair


if __name__ == "__main__":
    shown = Random(1)
    for _ in range(40):
        print("\t".join(draw(shown, held_out=False)))
