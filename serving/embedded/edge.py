"""What Envoy lets in: its bootstrap, with the limits, the token, TLS and the rate. Knows no service and no process."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from serving.embedded.routes import BUFFER, JSON, KEY_AUTH, RATE_LIMIT, TYPE, address
from serving.limits import MAX_BODY
from slipway.errors import ConfigError
from slipway.settings import Settings

MAX_HEADERS, MAX_HEADERS_KB = 64, 16
MAX_CONNECTIONS = 4096
ADMIN = ("/stats", "/config_dump", "/ready", "/clusters")


@dataclass(frozen=True)
class Tls:
    """PEM files. client_ca: who must have signed a client's certificate; none: clients need no certificate."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class Edge:
    """token: the bearer token of every service, "" none. rate: requests a second and service, 0 any number."""

    port: int
    host: str = "127.0.0.1"
    token: str = ""
    rate: int = 0
    tls: Tls | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @classmethod
    def of(cls, settings: Settings) -> "Edge":
        """Raises ConfigError for what would not protect, or could not be read."""
        token, tls = settings.token(), _tls(settings)
        try:
            is_loopback = ip_address(settings.http_host).is_loopback
        except ValueError as error:
            raise ConfigError(f"SLIPWAY_HTTP_HOST {settings.http_host!r} is no IP address") from error
        if not is_loopback and not (token or (tls and tls.client_ca)):
            raise ConfigError(
                f"SLIPWAY_HTTP_HOST {settings.http_host} lets other machines in, and anyone on them",
                "set SLIPWAY_EDGE_TOKEN_FILE, or SLIPWAY_TLS_CERT, _KEY and _CLIENT_CA",
            )
        return cls(settings.http_port, settings.http_host, token, settings.rate_limit, tls)


def _tls(settings: Settings) -> Tls | None:
    files = {"CERT": settings.tls_cert, "KEY": settings.tls_key, "CLIENT_CA": settings.tls_client_ca}
    if not any(files.values()):
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigError("TLS needs a certificate and its key", "set SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY, or neither")
    for name, path in files.items():
        if path and not path.is_file():
            raise ConfigError(f"SLIPWAY_TLS_{name} {path} is no file")
    ca = settings.tls_client_ca
    return Tls(settings.tls_cert.absolute(), settings.tls_key.absolute(), ca and ca.absolute())


def bootstrap(edge: Edge, folder: Path) -> dict[str, Any]:
    """folder: where clusters and routes are, in cds.json and rds.json."""
    name = "network.http_connection_manager"
    chain: dict[str, Any] = {"filters": [{"name": f"envoy.filters.{name}", "typed_config": _manager(folder)}]}
    if edge.tls:
        chain["transport_socket"] = _transport(edge.tls)
    connections = "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "node": {"id": "slipway", "cluster": "slipway"},
        # Reading only: a web page must not be able to POST /quitquitquit.
        "admin": {"address": address(0), "allow_paths": [{"prefix": path} for path in ADMIN]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.{connections}",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [{"name": "ingress", "address": address(edge.port, edge.host), "filter_chains": [chain]}]
        },
        "dynamic_resources": {"cds_config": _files(folder / "cds.json")},
    }


def _manager(folder: Path) -> dict[str, Any]:
    def http_filter(name: str, kind: str, off: bool = False, **config: Any) -> dict[str, Any]:
        typed = {"@type": f"{TYPE}.extensions.filters.http.{kind}", **config}
        return {"name": name, "typed_config": typed} | ({"disabled": True} if off else {})

    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "strip_any_host_port": True,
        "local_reply_config": _local_replies(),
        "rds": {"route_config_name": "ingress", "config_source": _files(folder / "rds.json")},
        # A path means the same here and in the server: /v2/../metrics is /metrics, and %2F no slash in disguise.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # The peer is the client: what it says in x-envoy-* and x-forwarded-for is not believed.
        "use_remote_address": True,
        # Its request id is kept, and made where it sent none: answer, copy and feedback are joined on it.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,  # it would change a digit of the client's
            }
        },
        "max_request_headers_kb": MAX_HEADERS_KB,
        "common_http_protocol_options": {
            "max_headers_count": MAX_HEADERS,
            "headers_with_underscores_action": "REJECT_REQUEST",  # a_b and a-b are one name to some servers
            "idle_timeout": "300s",
        },
        "http2_protocol_options": {"max_concurrent_streams": 128},
        "request_headers_timeout": "10s",
        "request_timeout": "60s",
        "http_filters": [
            http_filter(KEY_AUTH, "api_key_auth.v3.ApiKeyAuth", off=True),
            # After the token: strangers do not use up the rate of others.
            http_filter(RATE_LIMIT, "local_ratelimit.v3.LocalRateLimit", off=True, stat_prefix="ingress"),
            http_filter(BUFFER, "buffer.v3.Buffer", max_request_bytes=MAX_BODY),
            http_filter("envoy.filters.http.router", "router.v3.Router"),
        ],
    }


def _transport(tls: Tls) -> dict[str, Any]:
    common: dict[str, Any] = {
        "tls_certificates": [
            {"certificate_chain": {"filename": str(tls.cert)}, "private_key": {"filename": str(tls.key)}}
        ],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
    }
    if tls.client_ca:
        common["validation_context"] = {"trusted_ca": {"filename": str(tls.client_ca)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": bool(tls.client_ca),
        },
    }


def _local_replies() -> dict[str, Any]:
    """What Envoy itself answers (nobody there, too long, too large) is JSON, as what the servers answer."""

    def status(code: int) -> dict[str, Any]:
        return {
            "status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": "-"}}}
        }

    def reply(when: dict[str, Any], text: str, **headers: str) -> dict[str, Any]:
        added = [{"header": {"key": key.replace("_", "-"), "value": value}} for key, value in headers.items()]
        body = {"json_format": {"error": text}}
        return {"filter": when, "body_format_override": body, "headers_to_add": [JSON, *added]}

    own = {"or_filter": {"filters": [{"response_flag_filter": {}}, *map(status, (400, 413, 431))]}}
    return {
        "mappers": [
            reply(status(401), "a bearer token is needed, and this is none", www_authenticate='Bearer realm="slipway"'),
            reply(status(429), "more requests a second than this service takes", retry_after="1"),
            reply(own, "%LOCAL_REPLY_BODY%"),
        ]
    }


def _files(path: Path) -> dict[str, Any]:
    watched = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "path_config_source": watched}
