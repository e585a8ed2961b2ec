"""English sentences for products and for people."""

from pipelines.core.catalogue.words import Form, Phrases

_OPENERS: dict[Form, tuple[str, ...]] = {
    "object": (
        "{a_kind} with {feature}, made for {use}.",
        "This {kind} is made from {material} and has {feature}.",
        "We designed this {kind} around {use}.",
        "{brand} makes this {kind} from {material}, with {feature}.",
        "Built from {material}, this {kind} is meant for {use}.",
        "If you need {a_kind} for {use}, this one does the job without fuss.",
        "{a_kind} in {material}, with {feature} and {feature2}.",
        "There is a lot to like here: {feature}, {feature2}, and a build that suits {use}.",
        "{a_kind} for {use}.",
        "Think of it as {a_kind} for {use}, with {feature}.",
        "{feature} and {feature2}: the small things make this {kind} a pleasure to own.",
        "Two years of testing went into this {kind}, and we are proudest of {feature}.",
        "Customers asked for {a_kind} with {feature}; here it is.",
        "Made in small batches from {material}, for {use}.",
        "Whether for {use} or {use2}, {a_kind} like this earns its place.",
        "{material}, {feature} and a build that feels right from the first day: this is {a_kind} to keep.",
        "{brand} set out to make {a_kind} with {feature}, and it shows.",
        "Meet the {kind} we reach for ourselves: {feature}, and plenty of character.",
    ),
    "consumable": (
        "{a_kind} made with {material}.",
        "{material} and nothing you cannot pronounce: {a_kind} for {use}.",
        "{a_kind} with {feature}, made for {use}.",
        "This {kind} from {brand} has {feature}.",
        "{brand} prepares each {kind} in small batches from {material}.",
        "Chosen for {use}, this {kind} has {feature} and {feature2}.",
        "{feature}, {feature2}: what we look for in {a_kind}.",
        "{a_kind} that suits {use}.",
        "We tried dozens before settling on this {kind}, with {feature}.",
        "Starting from {material}, {brand} has made {a_kind} with {feature}.",
    ),
    "book": (
        "{a_kind} with {feature}.",
        "{a_kind} with {feature} and {feature2}.",
        "Published by {brand}, this {kind} was written for {use}.",
        "Reviewers praised this {kind} for {feature}.",
        "A readers' favourite: {a_kind} with {feature}, good for {use}.",
        "Two friends, one secret and {feature}: {a_kind} to keep.",
        "Back in print at last, {a_kind} with {feature}.",
        "{brand} brings out {a_kind} for {use}.",
        "Told with warmth and wit, this {kind} has {feature}.",
        "Ten years in the writing, {a_kind} that rewards {use}.",
    ),
}

_FEATURE_LINES: dict[Form, tuple[str, ...]] = {
    "object": (
        "It has {feature}.",
        "It comes with {feature}.",
        "You also get {feature}.",
        "Details include {feature} and {feature2}.",
        "We added {feature} because you asked.",
        "Touches such as {feature} set it apart.",
        "Look out for {feature}; you will use it more than you think.",
        "The maker spent real effort on {feature}.",
        "With {feature} as well, there is little left to wish for.",
    ),
    "consumable": (
        "Expect {feature}.",
        "It has {feature}.",
        "You will notice {feature}.",
        "People come back for {feature}.",
        "With {feature} and {feature2}, it rarely stays on the shelf for long.",
        "It starts with {material}.",
    ),
    "book": (
        "Expect {feature}.",
        "You will find {feature} and {feature2}.",
        "Readers mention {feature} again and again.",
        "There is also {feature}.",
        "Early readers loved {feature}.",
    ),
}

_USE_LINES: dict[Form, tuple[str, ...]] = {
    "object": (
        "Good for {use}.",
        "It is at its best for {use}.",
        "A sensible choice for {use}.",
        "We had {use} in mind.",
        "It works well for {use} and {use2}.",
        "Our staff recommend it for {use}.",
        "Many buy it for {use} and end up using it every day.",
        "Just the thing for {use}.",
    ),
    "consumable": (
        "Good for {use}.",
        "Made with {use} in mind.",
        "Try it for {use}.",
        "A favourite for {use}.",
        "Right for {use}, and for {use2} too.",
        "Best kept for {use}.",
    ),
    "book": (
        "Recommended for {use}.",
        "Just right for {use}.",
        "A good match for {use} and {use2}.",
        "Keep it for {use}.",
    ),
}

_ADJECTIVES: dict[Form, dict[str, tuple[str, ...]]] = {
    "object": {
        "budget": ("affordable", "budget", "no-frills"),
        "premium": ("premium", "high-end", "hand-finished"),
        "minimalist": ("plain", "understated", "minimalist"),
        "colourful": ("colourful", "bright", "playful"),
        "beginner": ("beginner-friendly", "straightforward", "entry-level"),
        "expert": ("professional", "expert-level", "pro-grade"),
        "eco": ("eco-friendly", "low-impact", "planet-friendly"),
        "large": ("large", "generously sized", "full-size"),
        "compact": ("compact", "lightweight", "space-saving"),
    },
    "consumable": {
        "budget": ("everyday", "good-value", "affordable"),
        "premium": ("premium", "small-batch", "reserve"),
        "minimalist": ("pure and simple", "plain", "no-nonsense"),
        "colourful": ("lively", "vibrant", "bold"),
        "beginner": ("gentle", "easy-going", "approachable"),
        "expert": ("specialist", "connoisseur's", "professional"),
        "eco": ("organic", "low-waste", "sustainably made"),
        "large": ("family-size", "bulk", "generous"),
        "compact": ("travel-size", "pocket-size", "sample-size"),
    },
    "book": {
        "budget": ("pocket-money", "budget", "inexpensive"),
        "premium": ("cloth-bound", "collector's", "beautifully bound"),
        "minimalist": ("spare", "quiet", "pared-back"),
        "colourful": ("richly illustrated", "exuberant", "vivid"),
        "beginner": ("accessible", "easy-reading", "welcoming"),
        "expert": ("demanding", "scholarly", "deeply researched"),
        "eco": ("sustainably printed", "recycled-paper", "carbon-neutral"),
        "large": ("thick", "sprawling", "hefty"),
        "compact": ("slim", "short", "pocket-size"),
    },
}

_STYLE_LINES: dict[Form, dict[str, tuple[str, ...]]] = {
    "object": {
        "budget": (
            "A fair price was the point from the start.",
            "It costs little and asks for little.",
            "You will struggle to find one this good for less.",
            "Cheap enough to lend to a friend.",
        ),
        "premium": (
            "It is not cheap, and it is built to be handed down.",
            "Every unit is finished and checked by hand.",
            "A luxury, frankly, and one that lasts for decades.",
            "The best materials we could find, whatever they cost.",
        ),
        "minimalist": (
            "No logos, no clutter, one quiet colour.",
            "The design leaves out everything it can.",
            "Clean lines and a neutral finish suit any room.",
        ),
        "colourful": (
            "It comes in colours that make people smile.",
            "Bold patterns mean you will never mistake it for someone else's.",
            "A cheerful splash of orange, teal and pink.",
        ),
        "beginner": (
            "No experience needed: the guide takes you through the first steps.",
            "If you are just starting out, start here.",
            "Simple enough to get right the first time.",
            "A forgiving choice for beginners.",
        ),
        "expert": (
            "Made for people who already know exactly what they want.",
            "Professionals will appreciate how much can be adjusted.",
            "Not a first purchase; more the one you work up to.",
        ),
        "eco": (
            "Recycled where possible, repairable throughout.",
            "Shipped without plastic, and we take it back at the end of its life.",
            "Made with renewable energy and responsibly sourced materials.",
        ),
        "large": (
            "There is room to spare.",
            "Sized for families and for people who dislike cramped things.",
            "It is big, and proud of it.",
        ),
        "compact": (
            "It is light and takes up very little room.",
            "Small enough for a shelf in a studio flat.",
            "Light, small and easy to put away when you are done.",
        ),
    },
    "consumable": {
        "budget": ("An everyday price for an everyday pleasure.", "Good value, and easy to restock."),
        "premium": (
            "Rare, limited and worth saving for.",
            "A small luxury, packed by hand.",
            "Expensive, and a little goes a long way.",
        ),
        "minimalist": ("Few ingredients, plain label, nothing added.", "As simple as it gets."),
        "colourful": (
            "Full of character, in a bright tin you will want to keep.",
            "Loud, lively and a little fun.",
        ),
        "beginner": (
            "A gentle introduction if all this is new to you.",
            "Clear instructions make it hard to go wrong.",
        ),
        "expert": (
            "One for people with strong opinions on the subject.",
            "Professionals order it by the crate.",
        ),
        "eco": (
            "Organic, with packaging you can compost.",
            "Fairly traded, and carbon-neutral to your door.",
        ),
        "large": ("A big pack that lasts for months.", "Sold in bulk for busy households."),
        "compact": ("Small enough for hand luggage.", "A little pack, so that you can try it first."),
    },
    "book": {
        "budget": ("A cheap and cheerful paperback.", "Priced for students."),
        "premium": ("Sewn binding, ribbon marker and slipcase.", "A numbered edition on heavy cream paper."),
        "minimalist": ("The prose is bare and exact.", "A plain cover hides a quiet marvel."),
        "colourful": ("Full-colour plates on almost every page.", "The jacket alone brightens a room."),
        "beginner": ("You need no background to enjoy it.", "An easy way in for newcomers."),
        "expert": (
            "It asks a lot of the reader and gives it back.",
            "Specialists will want the footnotes.",
        ),
        "eco": ("Printed on recycled paper with vegetable inks.", "A tree is planted for every copy."),
        "large": ("Eight hundred pages, and not one too many.", "Long enough for a whole holiday."),
        "compact": ("Short enough for a single afternoon.", "It slips into a coat pocket."),
    },
}

_HOBBY_LINES = (
    "I spend most weekends {hobby}.",
    "I enjoy {hobby} and {hobby2}.",
    "Lately I have got into {hobby}.",
    "{hobby} is what keeps me sane.",
    "Most of my free time goes into {hobby}.",
    "Mostly here for {hobby}, sometimes for {hobby2}.",
    "{hobby}, {hobby2} and {hobby3}: that is me.",
    "Weekends are for {hobby}, evenings for {hobby2} or {hobby3}.",
    "My friends know me for {hobby}, {hobby2} and, lately, {hobby3}.",
    "Big fan of {hobby}.",
    "When I am not at work I am usually {hobby}.",
    "I love {hobby}, and on quiet days {hobby2}.",
    "{hobby} and {hobby2} take up my evenings.",
    "My partner got me into {hobby}, and now I cannot stop.",
    "If I could, I would spend every day {hobby}.",
    "I like {hobby} more than I should admit.",
)

_SELF_STYLE_LINES: dict[str, tuple[str, ...]] = {
    "budget": ("I keep an eye on prices.", "Nothing too expensive, please.", "I am on a student budget."),
    "premium": (
        "I would rather pay more for something that lasts.",
        "I buy little, but I buy the best.",
        "Quality matters to me more than price.",
    ),
    "minimalist": ("I like plain, simple things.", "The less clutter the better."),
    "colourful": ("I love bright colours and bold patterns.", "Plain things bore me."),
    "beginner": ("I am new to most of this.", "Still a beginner, so nothing complicated."),
    "expert": ("I have been at it for years and know what I want.", "I tend to use professional gear."),
    "eco": ("I try to buy things that are kind to the planet.", "Recycled and repairable wins every time."),
    "large": ("We are a big family and need things to match.", "I have plenty of room and like things big."),
    "compact": ("I live in a small flat, so nothing bulky.", "I like light gear that packs small."),
}

# fmt: off
# Word lists: wrapped like prose, for the formatter would give every word a line.
_OBJECT_MODELS: tuple[str, ...] = (
    "Kestrel", "Rowan", "Harbour", "Juniper", "Atlas", "Wren", "Solstice", "Fjord", "Ember", "Larch",
    "Cobalt", "Heron", "Meridian", "Tansy", "Quill", "Summit", "Drift", "Saffron", "Onyx", "Hollow",
    "Beacon", "Cinder", "Maple", "Orbit", "Pike", "Sable", "Tundra", "Vesper", "Willow", "Zephyr",
)
_CONSUMABLE_MODELS: tuple[str, ...] = (
    "Dawn", "Meadow", "Hearth", "Orchard", "Lagoon", "Dune", "Clover", "Thistle", "Amber", "Cove",
    "Larkspur", "Glade", "Marigold", "Nectar", "Tide", "Sorrel", "Petal", "Canyon", "Velvet", "Rainfall",
    "Bramble", "Poppy", "Aurora", "Fern",
)
_COLOURS: tuple[str, ...] = (
    "Moss", "Slate", "Sand", "Ink Blue", "Terracotta", "Charcoal", "Ivory", "Plum", "Mustard", "Teal",
)
_BOOK_ADJECTIVES: tuple[str, ...] = (
    "Salt", "Hollow", "Borrowed", "Last", "Winter", "Paper", "Silent", "Glass", "Ninth", "Wandering",
    "Copper", "Hidden", "Unfinished", "Northern", "Patient", "Burning", "Crooked", "Gilded", "Restless",
    "Midnight",
)
_BOOK_NOUNS: tuple[str, ...] = (
    "Orchard", "Lantern", "Road", "Harbour", "Clockmaker", "Cartographer", "Tide", "Winter", "Kitchen",
    "Library", "Sparrow", "Garden", "Island", "Bridge", "Feast", "Archive", "Daughter", "River", "Loaf",
    "Observatory", "Letter", "Hill", "Market", "Fox",
)
# fmt: on

PHRASES_EN = Phrases(
    openers=_OPENERS,
    feature_lines=_FEATURE_LINES,
    use_lines=_USE_LINES,
    adjectives=_ADJECTIVES,
    style_lines=_STYLE_LINES,
    hobby_lines=_HOBBY_LINES,
    self_style_lines=_SELF_STYLE_LINES,
    models={"object": _OBJECT_MODELS, "consumable": _CONSUMABLE_MODELS, "book": ()},
    colours=_COLOURS,
    book_titles=(
        "The {adjective} {noun}",
        "{noun} and {noun2}",
        "The {noun} at {noun2}",
        "A {noun} for the {noun2}",
        "After the {adjective} {noun}",
        "What the {noun} Kept",
        "Letters from the {noun}",
    ),
    book_adjectives=_BOOK_ADJECTIVES,
    book_nouns=_BOOK_NOUNS,
)
