"""What the embedded KServe serves, on the screen: its status, and one user's recommendations with titles."""

import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from cli import packages
from serving.embedded import stack
from serving.embedded.supervisor import api_url
from slipway.errors import ConfigError, NotReadyError, RequestError, ServingError
from slipway.package import Package
from slipway.settings import Settings
from slipway.workloads.movies.tables import Catalogue, Histories

SERVICE = "movies"


READY = 60.0  # seconds that `up` waits for what was deployed before; a server imports its libraries in 4


def up(env: Settings, say: Callable[[str], None]) -> None:
    """Start the stack and wait until its services are ready, or until that takes too long: status tells which.

    Raises ServingError where it runs already with other settings, which would go unheard.
    """
    if other := stack.unlike(env):
        raise ServingError(
            f"the embedded KServe of {env.home} already runs, and was started with another {', '.join(other)}",
            "stop it first: slipway down",
        )
    stack.up(env)
    deadline = time.monotonic() + READY
    while waiting := [s.name for s in stack.status(env)[1] if s.ready != "True"]:
        if time.monotonic() > deadline:
            return
        say(f"waiting for {', '.join(waiting)}")
        time.sleep(0.2)


def show_status(console: Console, env: Settings) -> None:
    """Raises NotRunningError when it is down."""
    running, services = stack.status(env)
    console.print(
        f"Ingress     {running.scheme}://127.0.0.1:{running.http_port}  (Envoy, routes by Host)", highlight=False
    )
    console.print(
        f"API         127.0.0.1:{running.api_port}  (export KUBECONFIG=$(slipway kubeconfig))", highlight=False
    )
    console.print(f"Supervisor  pid {running.pid}, logs in {running.logs}", highlight=False, soft_wrap=True)
    table = Table("service", "ready", "traffic", "host", title="InferenceServices", title_justify="left")
    for service in services:
        traffic = ", ".join(f"{revision} {percent} %" for revision, percent in service.traffic)
        ready = "True" if service.ready == "True" else f"{service.ready}: {service.message}"
        table.add_row(f"{service.namespace}/{service.name}", ready, traffic, httpx.URL(service.url).host)
    console.print(table if services else "No InferenceService yet: run slipway run")
    if services:
        console.print(_revisions(env, services))


def _revisions(env: Settings, services: Sequence[stack.Service]) -> Table:
    """What `kubectl get pods` would tell: how many replicas answer of how many, and how often they restarted."""
    table = Table("revision", "traffic", "ready", "status", "restarts", "memory", "since", title="Revisions")
    table.title_justify = "left"
    now = time.time()
    for service in services:
        for one in stack.revisions(env, service):
            memory = f"{one.memory / 1e6:.0f} MB" if one.memory else ""
            since = "" if one.since is None else _span(now - one.since)
            copies = f"{one.ready}/{one.wanted}"
            table.add_row(
                f"{service.namespace}/{one.name}",
                f"{one.percent} %",
                copies,
                one.phase,
                str(one.restarts),
                memory,
                since,
            )
    return table


def _span(seconds: float) -> str:
    """As kubectl's AGE: the largest unit alone."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


@dataclass(frozen=True)
class Deployed:
    """The service as its manifest says it: where to ask, and the package that answers."""

    url: str
    host: str
    package: Package


def find(env: Settings) -> Deployed:
    """Raises NotRunningError, or NotReadyError when nothing is deployed."""
    running = stack.find(env)
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{env.namespace}/inferenceservices/{SERVICE}"
    answer = httpx.get(api_url(env) + path, timeout=10, trust_env=False)
    if answer.status_code == 404:
        raise NotReadyError(
            f"no InferenceService {env.namespace}/{SERVICE} is deployed", "run the pipeline: slipway run"
        )
    service = answer.raise_for_status().json()
    uri = service["spec"]["predictor"]["model"]["storageUri"]
    host = httpx.URL(service.get("status", {}).get("url", "")).host
    return Deployed(f"{running.scheme}://127.0.0.1:{running.http_port}", host, packages.fetch(uri, env))


def recommend(console: Console, env: Settings, user: int | None, k: int, session: list[int]) -> None:
    """History on the left, recommendations on the right, the paste-ready request below."""
    deployed = find(env)
    catalogue, histories = Catalogue.open(deployed.package.folder), Histories.open(deployed.package.folder)
    chosen = _typical_user(histories) if user is None else user
    inputs = [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [chosen]}]
    inputs += [{"name": "k", "datatype": "INT64", "shape": [1], "data": [k]}] if k != 10 else []
    inputs += [{"name": "session", "datatype": "INT64", "shape": [1, len(session)], "data": session}] if session else []
    path = f"/v2/models/{SERVICE}/infer"
    try:
        answer = httpx.post(
            deployed.url + path,
            json={"inputs": inputs},
            headers={"Host": deployed.host, **env.authorization()},
            timeout=10,
            trust_env=False,
            verify=trusted(env),
        )
    except httpx.HTTPError as error:
        raise ServingError(f"{deployed.url} does not answer: {error}", "see slipway status") from error
    if answer.status_code != 200:
        raise RequestError(f"the endpoint answered {answer.status_code}: {answer.text}", "see slipway status")
    body = answer.json()
    outputs = {output["name"]: output["data"] for output in body["outputs"]}
    known = int(histories.index(np.array([chosen]))[0])
    past = [catalogue.titles[item] for item in histories.of(known)] if known >= 0 else []
    past += [
        f"{catalogue.titles[item]} (session)" for item in catalogue.index(np.array(session, dtype=np.int64)) if item
    ]
    newest = past[::-1][: len(outputs["title"])]
    table = Table(
        f"history ({len(past)}, newest first)",
        "recommended next",
        Column("score", no_wrap=True),
        Column("from", no_wrap=True),
        title=f"User {chosen}",
        title_justify="left",
        caption="from: R ranker, C counts, P popular",
        caption_justify="left",
    )
    for row in range(max(len(newest), len(outputs["title"]))):
        cells = [newest[row] if row < len(newest) else ""]
        if row < len(outputs["title"]):
            cells += [outputs["title"][row], f"{outputs['score'][row]:.3f}", _initials(outputs["source"][row])]
        table.add_row(*cells)
    console.print(table)
    facts = body.get("parameters", {})
    lost = f" ({facts['lost']})" if "lost" in facts else ""
    console.print(f"Package {facts.get('package_version')}, fallback: {facts.get('fallback')}{lost}", highlight=False)
    request = httpx.Request("POST", deployed.url + path, json={"inputs": inputs})
    token = " -H 'Authorization: Bearer …'" if env.token() else ""
    token += " --insecure" if deployed.url.startswith("https") else ""  # it need not be called 127.0.0.1
    console.print(
        f"\ncurl -s -H 'Host: {deployed.host}'{token} {deployed.url}{path} \\\n  -d '{request.content.decode()}'",
        highlight=False,
        soft_wrap=True,
    )


def trusted(env: Settings) -> ssl.SSLContext | bool:
    """The ingress of this machine is whoever has the certificate that the settings name, whatever its name."""
    if env.tls_cert is None:
        return True
    try:
        context = ssl.create_default_context(cafile=env.tls_cert)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"SLIPWAY_TLS_CERT {env.tls_cert} cannot be read: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # itself, not who signed it
    context.check_hostname = False
    return context


def _initials(source: str) -> str:
    """Who found an item, in the room that 80 columns leave: the titles are what people read."""
    return "+".join(name[0].upper() for name in source.split("+") if name != "none")


def _typical_user(histories: Histories) -> int:
    """The user whose history is of median length: neither a newcomer nor a collector."""
    lengths = np.diff(histories.indptr)
    return int(histories.users[np.argsort(lengths, kind="stable")[len(lengths) // 2]])
