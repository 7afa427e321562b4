"""Kafka's topics: that what is spoken of is declared, and survives a broker. Knows objects and names, no message."""

from collections.abc import Iterator

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, listed

BOOTSTRAP = "-kafka-bootstrap"  # Strimzi's Service of a Kafka
CLUSTER = "strimzi.io/cluster"


@lint(
    "ref-kafka",
    "Topics, users and node pools name their Kafka cluster by label, and it is there.",
    "set the label strimzi.io/cluster to the Kafka object's name",
)
def clusters(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("KafkaTopic", "KafkaUser", "KafkaNodePool"):
        cluster = thing.labels.get(CLUSTER, "")
        if not estate.has("Kafka", thing.namespace, cluster):
            there = ", ".join(estate.names("Kafka", thing.namespace)[:12]) or "none"
            message = f"there is no Kafka {cluster or '(no label)'}; there are: {there}"
            yield Broken(thing, "metadata.labels", message)
        if thing.kind == "KafkaTopic":
            pools = [p for p in estate.all("KafkaNodePool") if p.labels.get(CLUSTER) == cluster]
            nodes = [p for p in pools if p.namespace == thing.namespace and "broker" in listed(p.spec, "roles")]
            count = sum(int(p.spec.get("replicas", 0)) for p in nodes)
            if nodes and int(thing.spec.get("replicas", 1)) > count:
                message = f"{thing.spec.get('replicas')} replicas on {count} brokers"
                yield Broken(thing, "spec.replicas", message, "lower replicas, or raise the node pools'")


@lint(
    "kafka-insync",
    "A topic can still be written to when one broker is away.",
    "set min.insync.replicas below the number of replicas",
)
def insync(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("KafkaTopic"):
        copies = int(thing.spec.get("replicas", 1))
        needed = (at(thing.spec, "config") or {}).get("min.insync.replicas", 1)
        if copies > 1 and int(needed) >= copies:
            message = f"{needed} of {copies} copies must be there: one broker away, and nothing is taken any more"
            yield Broken(thing, "spec.config", message)


@lint(
    "kafka-topics",
    "Each topic of the data set that is spoken of is declared: <data set>.<kind>.",
    "declare it as KafkaTopic (streams/kafka/topics.yaml), or correct SLIPWAY_DATA_SET",
)
def topics(estate: Estate) -> Iterator[Broken]:
    from slipway.stream import topic
    from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS

    for thing in estate.of("ConfigMap"):
        data = thing.document.get("data") or {}
        kafka, data_set = _kafka(estate, str(data.get("SLIPWAY_EVENTS_URL", ""))), data.get("SLIPWAY_DATA_SET")
        if kafka is None or not data_set:
            continue
        declared = {
            str(one.spec.get("topicName", one.name))
            for one in estate.all("KafkaTopic")
            if (one.namespace, one.labels.get(CLUSTER)) == (kafka.namespace, kafka.name)
        }
        missing = [name for kind in (*KINDS, DEAD_LETTERS) if (name := topic(str(data_set), kind)) not in declared]
        if missing:
            message = f"{kafka} has no topic {', '.join(missing)}; it has: {', '.join(sorted(declared)) or 'none'}"
            yield Broken(thing, "data.SLIPWAY_DATA_SET", message)


def _kafka(estate: Estate, url: str) -> Object | None:
    """The Kafka of ours behind kafka://<name>-kafka-bootstrap.<namespace>:<port>; None for anything else."""
    scheme, _, place = url.partition("://")
    name, _, rest = place.partition(".")
    if scheme != "kafka" or not name.endswith(BOOTSTRAP):
        return None
    return estate.get("Kafka", rest.partition(":")[0].partition(".")[0], name.removesuffix(BOOTSTRAP))
