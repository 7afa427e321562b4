"""Everything that is held against the built overlays, in order: build, schemas, CEL rules, lints. Knows no rule.

References are looked for in the whole cluster: all overlays that are applied. One that stands in for another is
checked in a cluster that has it instead of that one.

slipway manifests check                    # everything that is applied
slipway manifests check apps/production    # one overlay; what it refers to is looked for in all of them
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import celrules, lints, overlays, schemas, site, sources
from cluster.crds import FETCH, Definitions
from cluster.estate import Estate
from cluster.objects import Finding, Object
from cluster.overlays import Built, Overlay
from slipway.errors import ConfigError


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found; objects are those of the overlays that were asked for.

    lints: 0 where none could be asked, since something was not built.
    """

    overlays: tuple[Overlay, ...]
    objects: tuple[Object, ...]
    unvalidated: int
    rules: celrules.Rules
    lints: int
    waived: tuple[tuple[Finding, str], ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def kinds(self) -> Counter[str]:
        return Counter(f"{o.api_version} {o.kind}" for o in self.objects)


def check(names: Sequence[str], definitions: Definitions, root: Path = overlays.ROOT) -> Report:
    """Raises ConfigError for an overlay that there is not, SourceError where a definition is missing."""
    begin = time.perf_counter()
    applied = overlays.find(root)
    asked = overlays.choose(names, root) if names else applied
    worlds = {overlay.world for overlay in asked} | {""}
    built = overlays.build_all([*asked, *(o for o in applied if o not in asked and o.world in worlds)])
    mine, others = built[: len(asked)], built[len(asked) :]
    findings = [*site.check(root)]
    if not names:
        findings += [*overlays.read_sources(root), *sources.check(root)]
    for one in mine:
        findings += one.findings
    for one in others:
        findings += [
            Finding(f.overlay, f.object, f.path, "build", f"not built, so nothing in it can be found: {f.message}")
            for f in one.findings
        ]
    things = tuple(o for one in mine for o in one.objects)
    rules, unvalidated = celrules.Rules(), 0
    for thing in things:
        validated, found = schemas.check(thing, definitions)
        findings += found
        unvalidated += not validated
        definition = validated and definitions.has(thing.group, thing.kind)
        if definition and not found:  # a rule presumes the schema
            held = definitions.get(thing.group, thing.kind, thing.version)
            assert held is not None
            celrules.check(thing, held, rules)
    findings += rules.findings
    waived: list[tuple[Finding, str]] = []
    unbuilt, looked = {one.overlay.name for one in built if one.findings}, 0
    for part in estates(built, asked, root.parent):
        if unbuilt.intersection(part.folders):  # everything in it would be missed everywhere: pages of consequences
            continue
        linted, looked = lints.run(part), len(lints.ALL)
        findings += linted.findings
        waived += linted.waived
    return Report(
        tuple(asked),
        things,
        unvalidated,
        rules,
        looked,
        tuple(waived),
        tuple(sorted(set(findings))),
        time.perf_counter() - begin,
    )


def estates(built: Sequence[Built], asked: Sequence[Overlay], repository: Path) -> Iterator[Estate]:
    """The usual cluster with what is asked about, and each other kind of cluster with what stands in there.

    An overlay that is not applied itself (a part of one that is) is looked at in place of what takes it in.
    """
    usual = [one for one in built if not one.overlay.instead_of]
    mine = [one for one in usual if one.overlay in asked]
    if mine:
        yield _estate(usual, mine, repository)
    worlds: dict[str, list[Built]] = {}
    for one in built:
        if one.overlay.instead_of:
            worlds.setdefault(one.overlay.world, []).append(one)
    for together in worlds.values():
        mine = [one for one in together if one.overlay in asked]
        replaced = {one.overlay.instead_of for one in together}
        rest = [other for other in usual if other.overlay.name not in replaced and other.overlay.applied]
        if mine:
            yield _estate([*rest, *together], mine, repository)


def _estate(whole: Sequence[Built], mine: Sequence[Built], repository: Path) -> Estate:
    parts = {_identity(o) for one in whole if not one.overlay.applied for o in one.objects}
    things = [o for one in whole for o in one.objects if not one.overlay.applied or _identity(o) not in parts]
    folders = tuple(one.overlay.name for one in whole if one.overlay.applied)
    return Estate(tuple(things), tuple(o for one in mine for o in one.objects), repository, folders)


def _identity(thing: Object) -> tuple[str, ...]:
    return thing.group, thing.kind, thing.namespace, thing.name


def folder_of_definitions(given: Path | None, home: Path) -> Path:
    """Where the definitions are: the folder given, or the cache. Raises ConfigError when there are none."""
    folder = given or cached(home)
    if not any(folder.glob("*/*.yaml")):
        raise ConfigError(f"there are no definitions of custom resources in {folder}", FETCH)
    return folder


def cached(home: Path) -> Path:
    return home / "cache" / "crds"
