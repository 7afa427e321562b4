"""What a lint is, and which there are. Knows no object.

A lint has an id, a sentence that says what must hold, a remedy, and a function that yields what breaks it. An object
may ask to be spared one, with a reason, which the report counts:

    metadata:
      annotations:
        waive.slipway.dev/<lint's id>: <reason>
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.estate import Estate
from cluster.objects import Finding, Object

WAIVE = "waive.slipway.dev/"
SHORTEST_REASON = 10  # characters
UNREADABLE = Object("", {"kind": "objects", "metadata": {"name": "that their schemas refuse"}})


@dataclass(frozen=True)
class Broken:
    """remedy: more exact than the lint's own; "" for that one."""

    thing: Object
    path: str
    message: str
    remedy: str = ""


Rule = Callable[[Estate], Iterator[Broken]]


@dataclass(frozen=True)
class Lint:
    id: str
    sentence: str
    remedy: str
    rule: Rule


ALL: dict[str, Lint] = {}


def lint(id_: str, sentence: str, remedy: str) -> Callable[[Rule], Rule]:
    """Register the function below as a lint."""

    def register(rule: Rule) -> Rule:
        assert id_ not in ALL, id_
        ALL[id_] = Lint(id_, sentence, remedy, rule)
        return rule

    return register


@dataclass(frozen=True)
class Linted:
    findings: tuple[Finding, ...]
    waived: tuple[tuple[Finding, str], ...]


def run(estate: Estate, only: str | None = None) -> Linted:
    """Every lint (or the one of this id) over the estate; what is waived is told apart, with its reason."""
    findings: list[Finding] = []
    waived: list[tuple[Finding, str]] = []
    used: set[tuple[int, str]] = set()
    for one in [ALL[only]] if only else ALL.values():
        for broken in _broken(one, estate):
            found = Finding(
                broken.thing.overlay,
                str(broken.thing),
                broken.path,
                one.id,
                broken.message,
                broken.remedy or one.remedy,
            )
            reason = str(broken.thing.annotations.get(f"{WAIVE}{one.id}", ""))
            if len(reason) >= SHORTEST_REASON:
                used.add((id(broken.thing), one.id))
                waived.append((found, reason))
            else:
                findings.append(found)
    for thing in estate.mine:
        for key in thing.annotations:
            name = key.removeprefix(WAIVE)
            if key.startswith(WAIVE) and only is None and (id(thing), name) not in used:
                message = f"{name} is waived, and " + ("nothing breaks it" if name in ALL else "there is no such lint")
                remedy = "remove the annotation; or give a reason of ten characters or more"
                findings.append(Finding(thing.overlay, str(thing), "metadata.annotations", "waiver", message, remedy))
    return Linted(tuple(findings), tuple(waived))


def _broken(one: Lint, estate: Estate) -> Iterator[Broken]:
    """What breaks the lint; where an object is so far from its schema that it cannot be read, that."""
    try:
        yield from one.rule(estate)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"{one.id} could not look at everything: {type(error).__name__}: {error}"
        yield Broken(UNREADABLE, "", message, "correct what the schemas found first")
