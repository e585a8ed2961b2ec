"""Titles, descriptions and self-descriptions from an item's or a user's traits.

Only what a shopkeeper could know goes in: the kind of product, some of its features, its most marked style.
Which facts are told, and in what words, is left to chance, so that two like products read differently.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.core.catalogue.phrases_en import PHRASES_EN
from pipelines.core.catalogue.phrases_zh import PHRASES_ZH
from pipelines.core.catalogue.words import Category, Language, Phrases, Subcategory, fitting

PHRASES: Mapping[Language, Phrases] = {"en": PHRASES_EN, "zh": PHRASES_ZH}

_COUNTED = re.compile(r"^(pair|set|bag|box|tin|packet|pack|roll|cake|pouch|bar|collection) of ")
_VOWEL_SOUND = re.compile(r"^[aeiou]", re.IGNORECASE)
_CONSONANT_SOUND = re.compile(r"^(uk|uni|eu|one)", re.IGNORECASE)
_GROUPS = ("feature", "use")
_LISTED = re.compile(rf"({'|'.join(_GROUPS)})\d*")
_SMALL_WORDS = frozenset({"and", "of", "the", "to", "with", "for", "in"})


@dataclass(frozen=True)
class ItemFacts:
    """What may be told of one item.

    `poles` are its marked style ends, the most marked first; `material` is "" where the kind of product has
    none worth telling.
    """

    language: Language
    category: Category
    subcategory: Subcategory
    kind: int
    material: str
    poles: tuple[str, ...]

    @property
    def kind_name(self) -> str:
        """The product noun in the item's language."""
        return self.subcategory.words(self.language).kinds[self.kind]


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of `options`; all are as likely."""
    return options[int(rng.integers(len(options)))]


def with_article(noun: str) -> str:
    """Put "a" or "an" before an English noun, by its sound."""
    vowel = _VOWEL_SOUND.match(noun) and not _CONSONANT_SOUND.match(noun)
    return f"{'an' if vowel else 'a'} {noun}"


def describe_item(facts: ItemFacts, brand: str, rng: np.random.Generator) -> str:
    """Write one to four sentences on an item: what it is, then some of features, uses and style."""
    phrases = PHRASES[facts.language]
    form = facts.subcategory.form
    adjectives = [pick(phrases.adjectives[form][pole], rng) for pole in facts.poles]
    # A style told by the adjective is not told again by a sentence.
    told = 1 if adjectives and rng.random() < 0.4 else 0
    words = _item_words(facts, brand, adjectives[0] if told else "", rng)
    sentences = _pick_sentences(phrases.openers[form], words, rng)
    extra: list[str] = []
    for pole in facts.poles[told:]:
        if rng.random() < 0.9:
            extra.append(pick(phrases.style_lines[form][pole], rng))
    for templates, chance in ((phrases.feature_lines[form], 0.55), (phrases.use_lines[form], 0.4)):
        if rng.random() < chance:
            words = _untold(words, sentences + extra)
            extra += _pick_sentences(templates, words, rng)
    sentences += [extra[place] for place in rng.permutation(len(extra))]
    return _join(sentences[:4], facts.language)


def title_item(facts: ItemFacts, brand: str, rng: np.random.Generator) -> str:
    """Name an item as a shop would; two calls may give the same title."""
    return _title_book(facts, rng) if facts.subcategory.form == "book" else _title_goods(facts, brand, rng)


def describe_user(
    language: Language, hobbies: Sequence[str], poles: Sequence[str], rng: np.random.Generator
) -> str:
    """Write one to three first-person sentences that name `hobbies` and perhaps a style preference."""
    phrases = PHRASES[language]
    names = ("hobby", "hobby2", "hobby3")
    words = dict(zip(names, hobbies, strict=False))
    sentences: list[str] = []
    if len(hobbies) == 2 and rng.random() < 0.4:
        sentences += _hobby_sentence(phrases, {"hobby": hobbies[0]}, rng)
        words = {"hobby": hobbies[1]}
    sentences += _hobby_sentence(phrases, words, rng)
    if poles and rng.random() < 0.6:
        sentences.append(pick(phrases.self_style_lines[poles[0]], rng))
        if rng.random() < 0.2:
            sentences.reverse()
    return _join(sentences, language)


def _hobby_sentence(phrases: Phrases, words: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """Pick a sentence that names every hobby in `words`, so that how many are told is the caller's choice."""
    last = list(words)[-1]
    return _pick_sentences([line for line in phrases.hobby_lines if f"{{{last}}}" in line], words, rng)


def _item_words(facts: ItemFacts, brand: str, adjective: str, rng: np.random.Generator) -> dict[str, str]:
    """Fill in the words a template may name; a word this item has not is left out."""
    wording = facts.subcategory.words(facts.language)
    kind = facts.kind_name
    adj_kind = kind
    if adjective:
        adj_kind = f"{adjective} {kind}" if facts.language == "en" else f"{adjective}{kind}"
    words = {"brand": brand, "kind": kind, "adj_kind": adj_kind, "a_kind": with_article(adj_kind)}
    if facts.material:
        words["material"] = facts.material
    for group, phrases in zip(_GROUPS, (wording.features, wording.uses), strict=True):
        options = fitting(phrases, facts.kind)
        words |= _numbered(group, [options[place] for place in rng.permutation(len(options))])
    return words


def _untold(words: Mapping[str, str], sentences: Sequence[str]) -> dict[str, str]:
    """Drop the material, the features and the uses that were told, and renumber the rest from the first."""
    told = " ".join(sentences).lower()
    left = {name: text for name, text in words.items() if not _LISTED.fullmatch(name)}
    if left.get("material", "").lower() in told:
        left.pop("material", None)
    for group in _GROUPS:
        rest = [text for name, text in words.items() if name.startswith(group) and text.lower() not in told]
        left |= _numbered(group, rest)
    return left


def _numbered(group: str, texts: Sequence[str]) -> dict[str, str]:
    """Name the texts of a group as templates do: feature, feature2, feature3 ..."""
    return {(f"{group}{place}" if place > 1 else group): text for place, text in enumerate(texts, start=1)}


def _pick_sentences(
    templates: Sequence[str], words: Mapping[str, str], rng: np.random.Generator
) -> list[str]:
    """Fill one of the templates whose words are all at hand; an empty list where there is none."""
    usable = [line for line in templates if all(name in words for name in re.findall(r"\{(\w+)\}", line))]
    return [pick(usable, rng).format(**words)] if usable else []


def _join(sentences: Sequence[str], language: Language) -> str:
    """Join sentences, each once, with the spacing and the capitals of the language."""
    distinct = list(dict.fromkeys(sentences))
    if language == "zh":
        return "".join(distinct)
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in distinct)


def _title_goods(facts: ItemFacts, brand: str, rng: np.random.Generator) -> str:
    phrases = PHRASES[facts.language]
    form = facts.subcategory.form
    model = pick(phrases.models[form], rng)
    adjective = pick(phrases.adjectives[form][facts.poles[0]], rng) if facts.poles else ""
    ending = pick(phrases.colours, rng) if form == "object" and rng.random() < 0.35 else ""
    if facts.material and rng.random() < 0.3:
        ending = facts.material
    if rng.random() < 0.6:
        adjective = ""
    if facts.language == "zh":
        head = f"{brand} {model}" if rng.random() < 0.7 else brand
        return " ".join(part for part in (head, adjective + facts.kind_name, ending) if part)
    kind = _capitalise(_COUNTED.sub("", facts.kind_name))
    head = pick((f"{brand} {model}", f"{brand} {model}", model, brand), rng)
    name = " ".join(part for part in (head, _capitalise(adjective), kind) if part)
    return f"{name}, {_capitalise(ending)}" if ending else name


def _title_book(facts: ItemFacts, rng: np.random.Generator) -> str:
    phrases = PHRASES[facts.language]
    first, second = rng.choice(len(phrases.book_nouns), size=2, replace=False)
    title = pick(phrases.book_titles, rng).format(
        adjective=pick(phrases.book_adjectives, rng),
        noun=phrases.book_nouns[first],
        noun2=phrases.book_nouns[second],
    )
    if facts.language == "zh":
        return f"《{title}》{facts.kind_name}" if rng.random() < 0.7 else f"《{title}》"
    if rng.random() < 0.7:
        return f"{title}: {_capitalise(with_article(_COUNTED.sub('', facts.kind_name)))}"
    return title


def _capitalise(phrase: str) -> str:
    """Write a phrase in title case, leaving small words and words with capitals of their own."""
    words = phrase.split(" ")
    return " ".join(
        word if place and word in _SMALL_WORDS else word[:1].upper() + word[1:]
        for place, word in enumerate(words)
    )
