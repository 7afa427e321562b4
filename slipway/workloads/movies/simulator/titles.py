"""Names of films that do not exist. Knows syllables and genres; knows no film of this world.

Every title holds an invented word of three syllables or more, so none is a real film's.
"""

import numpy as np

_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "qu", "r", "s", "st", "t", "th",
           "tr", "v", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ia", "é", "ö")  # the file is ISO-8859-1: let readers show that they know
_VOWEL_WEIGHTS = np.array([8, 8, 6, 8, 4, 1, 1, 0.6, 0.4])
_CODAS = ("", "", "", "l", "n", "r", "s", "m", "nd", "sk")
_PLACES = ("Bay", "Bridge", "Gate", "Hill", "House", "Island", "Lane", "River", "Road", "Station", "Street", "Valley")
_PATTERNS = (
    "{name}", "{name}", "{name} {place}", "{name} {place}", "{noun} of {name}, The", "{noun} in {name}, A",
    "{name}'s {noun}", "{noun} for {name}, A", "Last {noun} of {name}, The", "{name} and the {noun}",
    "Return to {name}", "Letters from {name}", "Nights of {name}", "{noun} at {name} {place}, The",
)  # fmt: skip
_NOUNS = {
    "Action": ("Chase", "Strike", "Convoy", "Siege"),
    "Adventure": ("Map", "Voyage", "Expedition", "Crossing"),
    "Animation": ("Lantern", "Teapot", "Kite", "Parade"),
    "Children's": ("Puppy", "Holiday", "Treehouse", "Magpie"),
    "Comedy": ("Wedding", "Aunt", "Neighbour", "Recipe"),
    "Crime": ("Alibi", "Heist", "Witness", "Verdict"),
    "Documentary": ("Atlas", "Harvest", "Archive", "Glacier"),
    "Drama": ("Winter", "Orchard", "Promise", "Daughter"),
    "Fantasy": ("Crown", "Enchanter", "Well", "Dragon"),
    "Film-Noir": ("Shadow", "Stranger", "Alley", "Cigarette"),
    "Horror": ("Crypt", "Scream", "Cellar", "Curse"),
    "Musical": ("Waltz", "Chorus", "Serenade", "Trumpet"),
    "Mystery": ("Key", "Clue", "Portrait", "Disappearance"),
    "Romance": ("Kiss", "Garden", "Summer", "Farewell"),
    "Sci-Fi": ("Orbit", "Signal", "Machine", "Colony"),
    "Thriller": ("Hostage", "Wire", "Deadline", "Pursuit"),
    "War": ("Trench", "Regiment", "Armistice", "Sniper"),
    "Western": ("Stagecoach", "Outlaw", "Prairie", "Sheriff"),
}


def invent(rng: np.random.Generator, genres: list[str]) -> list[str]:
    """One title for each film, given its first genre; no two are equal."""
    taken: set[str] = set()
    titles = []
    for genre in genres:
        title = _title(rng, genre)
        while title in taken:
            title = _title(rng, genre)
        taken.add(title)
        titles.append(title)
    return titles


def _title(rng: np.random.Generator, genre: str) -> str:
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    nouns = _NOUNS[genre]
    return pattern.format(
        name=_name(rng), noun=nouns[rng.integers(len(nouns))], place=_PLACES[rng.integers(len(_PLACES))]
    )


def _name(rng: np.random.Generator) -> str:
    syllables = 3
    vowels = rng.choice(_VOWELS, syllables, p=_VOWEL_WEIGHTS / _VOWEL_WEIGHTS.sum())
    onsets, codas = rng.integers(0, len(_ONSETS), syllables), rng.integers(0, len(_CODAS), syllables)
    name = "".join(_ONSETS[onsets[s]] + vowels[s] for s in range(syllables)) + _CODAS[codas[-1]]
    return name.capitalize()
