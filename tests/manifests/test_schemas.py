"""Schemas and CEL rules, each class of mistake planted in an object that is sound."""

from typing import Any

import pytest

from cluster import celrules, schemas
from cluster.crds import Definition
from cluster.objects import Object

ISVC, RAY = "InferenceService slipway-production/movies", "RayJob slipway-training/train"
DEPLOYMENT = "Deployment slipway-training/trigger"
# What is planted, and the check, the path and the words that catch it.
MISTAKES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a misspelt key of a custom resource": (
        {"object": ISVC, "set": {"/spec/predictor/minReplica": 2}},
        *("schema", "spec.predictor", "unknown: minReplica; there is: minReplicas"),
    ),
    "a misspelt key of a core kind": (
        {"object": DEPLOYMENT, "set": {"/spec/replica": 2}},
        *("schema", "spec", "unknown: replica; there is: replicas"),
    ),
    "a misspelt key of metadata": (
        {"object": ISVC, "set": {"/metadata/annotation": {}}},
        *("schema", "metadata", "unknown: annotation"),
    ),
    "a number for a string": (
        {"object": RAY, "set": {"/spec/rayClusterSpec/headGroupSpec/rayStartParams/num-cpus": 0}},
        *("schema", "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", "is not of type 'string'"),
    ),
    "a string for a number": (
        {"object": DEPLOYMENT, "set": {"/spec/replicas": "2"}},
        *("schema", "spec.replicas", "is not of type 'integer'"),
    ),
    "a missing key": (
        {"object": "KafkaTopic slipway-training/exposures", "remove": ["/spec"]},
        *("schema", "", ""),
    ),
    "a missing key of a canary": (
        {"object": "InferenceService slipway-production/plain", "remove": ["/spec/canary/0/predictor/model/name"]},
        *("schema", "spec.canary[0].predictor.model", "'name' is missing"),
    ),
    "a value that is not one of those": (
        {"object": "CronJob slipway-training/nightly", "set": {"/spec/concurrencyPolicy": ["Forbid"]}},
        *("schema", "spec.concurrencyPolicy", "is not of type 'string'"),
    ),
    "an enumeration of a custom resource": (
        {
            "object": RAY,
            "set": {"/spec/deletionStrategy": {"deletionRules": [{"policy": "DeleteAll", "condition": {}}]}},
        },
        *("schema", "spec.deletionStrategy.deletionRules[0].policy", "is not one of"),
    ),
    "neither a number nor a string": (
        {"object": "Service slipway-training/store", "set": {"/spec/ports/0/targetPort": [5432]}},
        *("schema", "spec.ports[0].targetPort", "is not valid under any"),
    ),
    "a number out of its format": (
        {"object": RAY, "set": {"/spec/activeDeadlineSeconds": 2**31}},
        *("schema", "spec.activeDeadlineSeconds", "is not a 'int32'"),
    ),
    "a status": (
        {"object": DEPLOYMENT, "set": {"/status": {"replicas": 2}}},
        *("schema", "status", "the controller's to write"),
    ),
    "a kind that there is not": (
        {"object": DEPLOYMENT, "set": {"/kind": "Deploymet"}},
        *("unknown-kind", "kind", "there is no schema of apps/v1 Deploymet"),
    ),
    "a core kind of another group": (
        {"object": DEPLOYMENT, "set": {"/apiVersion": "apps.example.com/v1"}},
        *("unknown-kind", "kind", "there is no schema of apps.example.com/v1"),
    ),
    "a version that is gone": (
        {"object": "CronJob slipway-training/nightly", "set": {"/apiVersion": "batch/v1beta1"}},
        *("unknown-kind", "kind", "batch/v1beta1 CronJob"),
    ),
    "a version that a controller does not serve": (
        {
            "object": "ExternalSecret slipway-production/slipway-credentials",
            "set": {"/apiVersion": "external-secrets.io/v1beta1"},
        },
        *("api-version", "apiVersion", "serves no v1beta1"),
    ),
    "a deprecated version": (
        {"object": RAY, "set": {"/apiVersion": "ray.io/v1alpha1"}},
        *("api-version", "apiVersion", "is deprecated"),
    ),
    "no namespace": (
        {"object": ISVC, "remove": ["/metadata/namespace"]},
        *("namespace", "metadata.namespace", "no namespace"),
    ),
    "a namespace of a cluster's object": (
        {"object": "GatewayClass mesh", "set": {"/metadata/namespace": "slipway-production"}},
        *("namespace", "metadata.namespace", "has no namespace"),
    ),
    "no name": (
        {"object": ISVC, "remove": ["/metadata/name"]},
        *("schema", "", "no apiVersion, kind or metadata.name"),
    ),
}
RULES: dict[str, tuple[dict[str, Any], str]] = {
    "two listeners on one port": (
        {
            "object": "Gateway slipway-production/edge",
            "set": {"/spec/listeners/-": {"name": "again", "port": 80, "protocol": "HTTP"}},
        },
        "Combination of port, protocol and hostname must be unique",
    ),
    "a path without its slash": (
        {
            "object": "HTTPRoute slipway-production/movies",
            "set": {"/spec/rules/0/matches": [{"path": {"type": "Exact", "value": "movies"}}]},
        },
        "absolute path",
    ),
    "a least that is more than the most": (
        {
            "object": "ScaledObject slipway-training/trigger",
            "set": {"/spec/minReplicaCount": 5, "/spec/maxReplicaCount": 4},
        },
        "must be",
    ),
    "a template that is two things": (
        {
            "object": "WorkflowTemplate slipway-training/retrain",
            "set": {"/spec/templates/0/dag": {"tasks": []}},
        },
        "",
    ),
}


def _thing(things: list[Object], mistake: dict[str, Any]) -> Object:
    """The object at the mistake's place, which the mistake may have renamed."""
    before = [str(t) for t in things].index(mistake["object"])
    return things[before]


def test_the_sound_cluster_is_what_its_schemas_say(sound, definitions) -> None:
    rules = celrules.Rules()
    for thing in sound:
        assert schemas.check(thing, definitions) == schemas.Result(True, [])
        definition = definitions.has(thing.group, thing.kind) and definitions.get(
            thing.group, thing.kind, thing.version
        )
        if definition:
            celrules.check(thing, definition, rules)
    assert rules.findings == []
    assert rules.unevaluated == {}
    assert rules.evaluated >= 30


@pytest.mark.parametrize("name", MISTAKES)
def test_a_schema_refuses(name, sound, definitions, planter) -> None:
    mistake, check, path, says = MISTAKES[name]
    index = [str(thing) for thing in sound].index(mistake["object"])
    found = schemas.check(planter(sound, mistake)[index], definitions).findings
    assert [f for f in found if (f.check, f.path) == (check, path) and says in f.message], found
    assert all(f.remedy for f in found)


@pytest.mark.parametrize("name", RULES)
def test_a_cel_rule_refuses(name, sound, definitions, planter) -> None:
    mistake, says = RULES[name]
    index = [str(thing) for thing in sound].index(mistake["object"])
    thing = planter(sound, mistake)[index]
    definition = definitions.get(thing.group, thing.kind, thing.version)
    rules = celrules.Rules()
    celrules.check(thing, definition, rules)
    assert [f for f in rules.findings if says in f.message], rules.findings


# What real definitions say seldom, on definitions of our own: no CRD is needed.


def definition(properties: dict[str, Any], **more: Any) -> Definition:
    spec = {"type": "object", "properties": properties, **more}
    schema = {"type": "object", "properties": {"spec": spec}}
    return Definition("example.com", "Thing", "v1", True, True, False, schema)


def thing(spec: Any) -> Object:
    document = {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": spec,
    }
    return Object("o", document)


@pytest.mark.parametrize(
    ("properties", "value", "holds"),
    [
        ({"a": {"x-kubernetes-int-or-string": True}}, {"a": "50%"}, True),
        ({"a": {"x-kubernetes-int-or-string": True}}, {"a": 5}, True),
        ({"a": {"x-kubernetes-int-or-string": True}}, {"a": 5.5}, False),
        ({"a": {"type": "string", "nullable": True}}, {"a": None}, True),
        ({"a": {"type": "string"}}, {"a": None}, False),
        ({"a": {"type": "object"}}, {"a": {"b": 1}}, False),
        ({"a": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}, {"a": {"b": 1}}, True),
        ({"a": {"type": "object", "additionalProperties": {"type": "string"}}}, {"a": {"b": "c"}}, True),
        ({"a": {"type": "object", "additionalProperties": {"type": "string"}}}, {"a": {"b": 1}}, False),
        (
            {"a": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}},
            {"a": ["b", "b"]},
            False,
        ),
        ({"a": {"type": "string", "format": "date-time"}}, {"a": "2026-11-22T03:00:00Z"}, True),
        ({"a": {"type": "string", "format": "date-time"}}, {"a": "2026-11-22"}, False),
        ({"a": {"type": "string", "format": "duration"}}, {"a": "1h30m"}, True),
        ({"a": {"type": "string", "format": "duration"}}, {"a": "1 hour"}, False),
        ({"a": {"type": "string", "format": "byte"}}, {"a": "aGk="}, True),
        ({"a": {"type": "string", "format": "byte"}}, {"a": "hi!"}, False),
        (
            {
                "a": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                }
            },
            {"a": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}},
            True,
        ),
        (
            {
                "a": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                }
            },
            {"a": {"apiVersion": "v1", "metadata": {"names": "a"}}},
            False,
        ),
    ],
)
def test_kubernetes_own_keywords(properties, value, holds) -> None:
    assert schemas.errors(thing(value), definition(properties)) == [] or not holds
    assert bool(schemas.errors(thing(value), definition(properties))) != holds


def test_a_list_by_key_holds_each_key_once() -> None:
    items = {"type": "object", "properties": {"name": {"type": "string"}}}
    keyed = {
        "a": {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    }
    assert schemas.errors(thing({"a": [{"name": "x"}, {"name": "y"}]}), definition(keyed)) == []
    [error] = schemas.errors(thing({"a": [{"name": "x"}, {"name": "x"}]}), definition(keyed))
    assert "item 1 is there twice: name 'x'" in error.message


def run(rule: dict[str, Any], properties: dict[str, Any], spec: Any) -> celrules.Rules:
    rules = celrules.Rules()
    celrules.check(thing(spec), definition(properties, **{"x-kubernetes-validations": [rule]}), rules)
    return rules


def test_defaults_are_there_before_the_rules() -> None:
    properties = {
        "a": {"type": "integer", "default": 3},
        "b": {"type": "object", "default": {}, "properties": {"c": {"default": "x"}}},
    }
    assert run({"rule": "self.a == 3 && self.b.c == 'x'"}, properties, {}).findings == []


def test_a_rule_sees_escaped_names() -> None:
    properties = {"namespace": {"type": "string"}, "a-b": {"type": "string"}}
    held = run(
        {"rule": "self.__namespace__ == 'x' && self.a__dash__b == 'y'"}, properties, {"namespace": "x", "a-b": "y"}
    )
    assert (held.findings, held.evaluated) == ([], 1)


def test_a_rule_that_compares_with_the_object_before_is_counted_apart() -> None:
    rules = run({"rule": "self.a == oldSelf.a"}, {"a": {"type": "integer"}}, {"a": 1})
    assert (rules.evaluated, rules.transitions, rules.findings) == (0, 1, [])


def test_a_rule_that_cannot_be_run_is_never_taken_as_held() -> None:
    rules = run({"rule": "quantity(self.a).isGreaterThan(quantity('1'))"}, {"a": {"type": "string"}}, {"a": "2"})
    assert (rules.evaluated, rules.findings) == (0, [])
    assert "quantity" in next(iter(rules.unevaluated.values()))


def test_an_error_in_a_rule_is_a_refusal() -> None:
    rules = run({"rule": "self.a == 1", "message": "a is 1"}, {"a": {"type": "integer"}}, {})
    assert rules.findings[0].message.startswith("a is 1 (")
