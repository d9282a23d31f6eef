"""The appendix: what reporting standards ask of subgroups, with what the tool knows and what the user's card says.

The questions are ours. Each names the standards that ask it in words of their own; items are not numbered here, since
their numbers change with every version.
"""

from __future__ import annotations

from dataclasses import dataclass

from equiprune.report.content import Page
from equiprune.report.numbers import count, counted, joined, known, measured, noun_of, number, share

MISSING = "NOT PROVIDED"
TRIPOD, CLAIM, CARDS, STANDING = "TRIPOD+AI", "CLAIM", "Model cards", "STANDING Together"


@dataclass(frozen=True)
class Item:
    """A question with its answer.

    Args:
        topic: what it is about.
        question: in our words.
        standards: which of the standards ask for it.
        answer: what is known, or NOT PROVIDED.
        source: `computed` by the tool, from the `card`, or blank.
    """

    topic: str
    question: str
    standards: tuple[str, ...]
    answer: str
    source: str


ASKED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("Purpose", "name", "Which model is this?", (CARDS, TRIPOD)),
    ("Purpose", "owner", "Who made it, and whom can one ask?", (CARDS,)),
    ("Purpose", "intended_use", "For which decision, in whom, and where in care is it meant?", (TRIPOD, CLAIM, CARDS)),
    ("Purpose", "intended_users", "Who is to use it?", (TRIPOD, CARDS)),
    ("Purpose", "out_of_scope", "What must it not be used for?", (CARDS, STANDING)),
    ("Purpose", "known_inequalities", "Which inequalities in health are known in this field?", (TRIPOD, STANDING)),
    ("Data", "data_source", "Where do the images come from?", (TRIPOD, CLAIM, CARDS, STANDING)),
    ("Data", "collection", "Why were they collected, and who is missing from them?", (STANDING, CARDS)),
    ("Data", "eligibility", "Who was included and excluded?", (TRIPOD, CLAIM, STANDING)),
    ("Data", "reference_standard", "How and by whom were the labels made?", (TRIPOD, CLAIM, STANDING)),
    ("Data", "missing_data", "What is missing, and what was done about it?", (TRIPOD, CLAIM, STANDING)),
    ("Data", "ethics", "Approval, consent and protection of data?", (TRIPOD, CLAIM, STANDING)),
    ("Groups", "attribute_source", "How was the attribute obtained?", (STANDING, TRIPOD)),
    ("Groups", "attribute_meaning", "What do the groups stand for, and whom do they leave out?", (STANDING, CARDS)),
    (
        "Groups",
        "group_choice",
        "Why these groups, and were they chosen before the results were seen?",
        (STANDING, CARDS),
    ),
    ("Groups", "sample_size", "Why are there so many patients, in all and in each group?", (TRIPOD, CLAIM, STANDING)),
    ("Model", "mitigation_choice", "Why was unfairness treated in this way?", (TRIPOD, STANDING)),
    ("Results", "external_validation", "Where else was it tested?", (TRIPOD, CLAIM, CARDS)),
    ("Use", "limitations", "What are its limits?", (TRIPOD, CLAIM, CARDS, STANDING)),
    ("Use", "harms", "What may go wrong, and for whom?", (CARDS, STANDING)),
    ("Use", "monitoring", "How is it watched in use, by group?", (STANDING,)),
    ("Use", "updating", "When is it changed or withdrawn?", (CARDS,)),
    ("Openness", "patients_involved", "How did patients and the public take part?", (TRIPOD, STANDING)),
    ("Openness", "licence", "Under what terms can model, code and data be had?", (TRIPOD, CLAIM, CARDS)),
    ("Openness", "funding", "Who paid?", (TRIPOD, CLAIM)),
    ("Openness", "conflicts", "Which interests have those who made it?", (TRIPOD,)),
)
SOFTWARE = ("equiprune", "python", "torch", "torchvision", "numpy", "scikit-learn")
TOPICS = ("Purpose", "Data", "Groups", "Model", "Results", "Use", "Openness")


def standards(page: Page) -> tuple[Item, ...]:
    """Every question, by topic: what the tool knows, then what the card says or leaves open."""
    asked = [
        Item(topic, question, names, page.card.get(field, MISSING), "card" if field in page.card else "")
        for topic, field, question, names in ASKED
    ]
    every = [*_known(page), *asked]
    return tuple(item for topic in TOPICS for item in every if item.topic == topic)


def unanswered(items: tuple[Item, ...]) -> str:
    """How much of the appendix is open, in a sentence."""
    open_ = sum(item.answer == MISSING for item in items)
    if not open_:
        return f"All {len(items)} questions are answered; whether well, the reader judges."
    return f"{open_} of {len(items)} questions are NOT PROVIDED: the makers answer them in the file that --card names."


def _known(page: Page) -> list[Item]:
    return [
        Item(topic, question, names, answer, "computed")
        for topic, question, names, answer in (*_data(page), *_groups(page), *_model(page), *_results(page))
    ]


Told = tuple[str, str, tuple[str, ...], str]


def _data(page: Page) -> list[Told]:
    data = page.data
    unit = noun_of(str(data["unit"])) if data.get("unit") else None
    units = (
        f" of {counted(data['units'], unit)}"
        if unit and isinstance(data.get("units"), int)
        else ", without ids of patients"
    )
    splits = "; ".join(
        f"{name}: {count(split['images'])} images"
        + (f", {counted(split['units'], unit)}" if unit and split.get("units") else "")
        for name, split in data["splits"].items()
    )
    apart = f" No {unit} is in two splits." if unit and not (page.facts or {}).get("units_in_several_splits") else ""
    skipped = sum((data.get("skipped") or {}).values())
    return [
        ("Data", "How many images and patients?", (TRIPOD, CLAIM, STANDING), f"{count(data['images'])} images{units}."),
        ("Data", "How were they split?", (TRIPOD, CLAIM), f"{splits}.{apart}"),
        ("Data", "Which version of the data?", (TRIPOD, CARDS), f"{data['manifest']}, SHA-256 {data['sha256']}."),
        (
            "Data",
            "Were images left out for being unreadable?",
            (CLAIM, STANDING),
            f"{skipped:,}." if skipped else "None.",
        ),
        ("Data", "How were images prepared?", (TRIPOD, CLAIM), f"Scaled to {data['image_size']} pixels a side."),
    ]


def _groups(page: Page) -> list[Told]:
    audit = page.last.audit
    attribute = audit["attribute"]
    rows = audit["by_group"].items()
    told = joined([f"{group} {row['n']:,} ({share(row['n'], audit['n'])})" for group, row in rows])
    few = [group for group, row in rows if not row.get("supported", True)]
    support = f"Too few to be judged: {joined(few)}." if few else "All groups have enough positives to be judged."
    unknown, groups = attribute.get("unknown") or 0, joined(list(page.groups))
    return [
        ("Groups", "Which attribute and groups?", (STANDING, TRIPOD, CARDS), f"{attribute['name']}: {groups}."),
        ("Groups", f"How many {page.split} images has each group?", (STANDING, TRIPOD, CLAIM), f"{told}. {support}"),
        (
            "Groups",
            "Of how many is the attribute unknown?",
            (STANDING,),
            f"{counted(unknown, f'{page.split} image')}, in overall figures only.",
        ),
    ]


def _model(page: Page) -> list[Told]:
    between = "; " if len(page.ends) > 1 else " → "  # branches are no sequence
    steps = between.join(f"{step.name} ({step.method})" for step in page.steps)
    versions = {**page.environment, **(page.environment.get("versions") or {})}
    named = ", ".join(f"{name} {versions[name]}" for name in SOFTWARE if name in versions) or "versions not recorded"
    seed = page.environment.get("seed")
    needs = any(step.facts.get("needs_group") for step in page.steps)
    use = "The last model" if page.last.facts.get("needs_group") else "A model on this page" if needs else "No model"
    return [
        (
            "Model",
            "What was trained, and what was done about unfairness?",
            (TRIPOD, CLAIM, CARDS),
            f"{steps}; settings below.",
        ),
        ("Model", "Must it be told the attribute at use?", (STANDING, CARDS), f"{use} must be." if needs else "No."),
        ("Model", "With which software and seed?", (TRIPOD, CLAIM), f"{named}; seed {seed}."),
    ]


def _results(page: Page) -> list[Told]:
    audit, conventions = page.last.audit, page.last.audit["conventions"]
    gap, overall = audit["gaps"]["eopp1"], audit["overall"]["f1"]
    chance, drawn = number(gap.get("floor")), conventions.get("replicates", "–")
    by_group = joined([f"{group} {measured(row['f1'])}" for group, row in audit["by_group"].items()])
    seen = known(gap.get("detectable"))
    power = f" A gap of {number(seen)} would be found in 80 % of cases." if seen is not None else ""
    return [
        (
            "Results",
            "Performance overall, with intervals?",
            (TRIPOD, CLAIM, CARDS),
            f"Macro F1 {measured(overall)}; others above.",
        ),
        (
            "Results",
            "Performance in each group, with intervals?",
            (TRIPOD, CLAIM, CARDS, STANDING),
            f"Macro F1: {by_group}.",
        ),
        (
            "Results",
            "How large is the gap, and could it be chance?",
            (STANDING, TRIPOD),
            f"Eopp1 {measured(gap)}; {chance} by chance.{power}",
        ),
        (
            "Results",
            "How were uncertainty and chance judged?",
            (TRIPOD, CLAIM),
            f"{conventions['interval']}; {drawn} permutations.",
        ),
    ]
