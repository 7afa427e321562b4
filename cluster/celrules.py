"""The CEL rules of a custom resource's definition (x-kubernetes-validations), run as the API server runs them.

Knows rules of creation: one that compares with the object before (oldSelf) has nothing to say of a new one. A rule
that needs a function which this machine's CEL lacks is counted as not evaluated, never as held.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cel
from cel import stdlib

from cluster import schemas
from cluster.crds import Definition
from cluster.objects import Finding, Object, join

# Kubernetes' spelling of property names that CEL could not read (API reference, "Escaping in CEL expressions").
WORDS = "true false null in as break const continue else for function if import let loop package namespace return var"
RESERVED = frozenset([*WORDS.split(), "void", "while"])
ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
META = ("apiVersion", "kind", "metadata")


@dataclass
class Rules:
    """What was done: evaluated counts each run of a rule; transitions, rules that need an older object."""

    evaluated: int = 0
    transitions: int = 0
    distinct: set[str] = field(default_factory=set)
    unevaluated: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check(thing: Object, definition: Definition, rules: Rules) -> None:
    """Add to rules what the definition's rules say of the object, with the schema's defaults filled in."""
    document = {key: value for key, value in thing.document.items() if key != "status"}
    for path, value, schema in _ruled(schemas.default(document, definition.schema), definition.schema, ""):
        for rule in schema["x-kubernetes-validations"]:
            _run(thing, path, value, schema, rule, rules)


def _ruled(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Each value of the tree whose schema has rules."""
    if schema.get("x-kubernetes-validations") and value is not None:
        yield path, value, schema
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            of = properties.get(key, extra if isinstance(extra, Mapping) else None)
            if of is not None and not (not path and key in META):
                yield from _ruled(inner, of, join(path, key))
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, inner in enumerate(value):
            yield from _ruled(inner, schema["items"], join(path, index))


def _run(
    thing: Object, path: str, value: Any, schema: Mapping[str, Any], rule: Mapping[str, Any], rules: Rules
) -> None:
    text = rule["rule"]
    try:
        program, names = _compile(text)
    except ValueError as error:
        rules.unevaluated[text] = f"{thing.kind}: {str(error).splitlines()[0]}"
        return
    if "oldSelf" in names and not rule.get("optionalOldSelf"):
        rules.transitions += 1
        return
    context = cel.Context({"self": _visible(value, schema)})
    stdlib.add_stdlib_to_context(context)
    if "oldSelf" in names:
        context.add_variable("oldSelf", None)
    said = ""
    try:
        held = program.execute(context)
    except RuntimeError as error:
        if "Undefined variable or function" in str(error):
            rules.unevaluated[text] = f"{thing.kind}: {str(error).split('.')[0]}"
            return
        held, said = False, f" ({error})"
    except (KeyError, TypeError, ValueError) as error:  # an error in a rule is a refusal
        held, said = False, f" ({type(error).__name__}: {error})"
    rules.evaluated += 1
    rules.distinct.add(text)
    if held is not True:
        rules.findings.append(
            Finding(
                thing.overlay,
                str(thing),
                path + rule.get("fieldPath", ""),
                "cel",
                (rule.get("message") or "a rule of the definition does not hold") + said,
                f"the rule: {' '.join(text.split())[:240]}",
            )
        )


@lru_cache(maxsize=2048)
def _compile(text: str) -> tuple[cel.Program, frozenset[str]]:
    program = cel.compile(text)
    return program, frozenset(program.variables())


def _visible(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value as CEL sees it: declared properties by their escaped names, a map's own keys as they are."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties"), schema.get("additionalProperties")
        if not properties:
            return {key: _visible(inner, extra if isinstance(extra, Mapping) else {}) for key, inner in value.items()}
        return {_escaped(key): _visible(inner, properties.get(key, {})) for key, inner in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        return [_visible(inner, items if isinstance(items, Mapping) else {}) for inner in value]
    return value


def _escaped(key: str) -> str:
    if key in RESERVED:
        return f"__{key}__"
    for plain, escaped in ESCAPES:
        key = key.replace(plain, escaped)
    return key
