"""Words by their stems: whether a text holds a form of a word that tells an option from the others.

A short list of English endings and of common irregular verbs, not a dictionary: forms of one word
mostly get one stem, and a stem is compared with stems only, so it need be no word itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from probes.stimuli.words import words

_FUNCTION_WORDS = frozenset(
    (
        "a about above after again against all also am an and any are around as at away back be "
        "because been before being below between both but by can could did do does down during "
        "each either few first for from further had has have he her hers him his how i if in into "
        "is it its itself just last like may might more most much must my no none nor not of off "
        "on once one only onto or other our out over own per same she should so some such than "
        "that the their them then there these they this those through to too toward towards two "
        "under until up upon us very was we were what when where whether which while who whom "
        "whose why will with within without would yes you your"
    ).split()
)
_FORMS = {
    "break": "broke broken",
    "bring": "brought",
    "build": "built",
    "buy": "bought",
    "catch": "caught",
    "choose": "chose chosen",
    "draw": "drew drawn",
    "drink": "drank drunk",
    "drive": "drove driven",
    "eat": "ate eaten",
    "fall": "fell fallen",
    "find": "found",
    "get": "got gotten",
    "give": "gave given",
    "go": "went gone",
    "hang": "hung",
    "hold": "held",
    "keep": "kept",
    "lay": "laid",
    "lose": "lost",
    "make": "made",
    "pay": "paid",
    "ride": "rode ridden",
    "ring": "rang rung",
    "run": "ran",
    "say": "said",
    "see": "saw seen",
    "sell": "sold",
    "shake": "shook shaken",
    "show": "shown",
    "sit": "sat",
    "slide": "slid",
    "speak": "spoke spoken",
    "stand": "stood",
    "stick": "stuck",
    "sweep": "swept",
    "swim": "swam swum",
    "take": "took taken",
    "tear": "tore torn",
    "throw": "threw thrown",
    "use": "uses used using",
    "wear": "wore worn",
    "write": "wrote written",
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "knife": "knives",
    "leaf": "leaves",
    "shelf": "shelves",
}
_IRREGULAR = {form: verb for verb, forms in _FORMS.items() for form in forms.split()}
_VOWELS = frozenset("aeiouy")


def stem(word: str) -> str:
    """Return the stem of a word in lower case: one for `carry`, `carries`, `carried`, `carrying`.

    >>> [stem(word) for word in "cutting boxes slowly".split()]
    ['cut', 'box', 'slow']
    """
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    word = _singular(word)
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        # "king" and "bed" are whole words: what is left of a form has a vowel and two letters more.
        if rest != word and len(rest) >= 3 and _VOWELS & set(rest):
            word = _undoubled(rest)
            break
    else:
        if word.endswith("ly") and len(word) > 5:
            word = word.removesuffix("ly")
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    # "carry" becomes what "carried" and "carries" have left.
    return f"{word[:-1]}i" if word.endswith("y") and word[-2] not in _VOWELS else word


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _undoubled(word: str) -> str:
    doubled = word[-1] == word[-2] and word[-1] not in _VOWELS
    # "falling" and "passing" have their own double letters.
    return word[:-1] if doubled and word[-1] not in "lsz" else word


@lru_cache(maxsize=8_192)  # an item's options are looked at for every gap
def content_stems(text: str) -> frozenset[str]:
    """Return the stems of a text's words, but for those of words that only join others."""
    return frozenset(stem(word) for word in words(text) if word not in _FUNCTION_WORDS)


def telling(options: Sequence[str]) -> list[frozenset[str]]:
    """Return, for every option, the content stems that no other option has."""
    every = [content_stems(option) for option in options]
    uses = Counter(one for some in every for one in some)
    return [frozenset(one for one in some if uses[one] == 1) for some in every]


def leaks_by_stem(infill_texts: Iterable[str], options: Sequence[str]) -> list[int]:
    """Return the options of which an infill holds a form of a word that no other option has.

    Much more is found than by `words.leaks`, wrong options too: a text about what is seen shares
    words with whatever is asked about it. So it is a rate to compare with that of wrong options.

    Returns:
        Indices of options, ascending.
    """
    said = frozenset(one for text in infill_texts for one in content_stems(text))
    return [index for index, own in enumerate(telling(options)) if own & said]
