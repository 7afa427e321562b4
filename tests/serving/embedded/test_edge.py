"""Who and what the ingress lets in: a real Envoy before a replica of the test's own, real certificates."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.serving import trusted
from serving.embedded.edge import Edge, Tls
from slipway.deployment import address
from slipway.errors import ConfigError
from slipway.settings import Settings

Run = Callable[..., None]
TOKEN = "an-edge-token-of-32-characters.."


async def only(here: Any, **more: Any) -> Any:
    (replica,) = await here.replicas("m-1")
    await here.routed(("m-1", 100), replicas={"m-1": [replica]}, **more)
    return replica


async def raw(port: int, text: bytes) -> tuple[int, dict[str, str], bytes]:
    """What a client that obeys no rule gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    return int(status.split()[1]), headers, body


def test_a_token_is_asked_for_and_not_passed_on(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        replica = await only(here)
        port = here.gateway.edge.port
        for path in ("/v2/models/m/infer", "/metrics", "/nowhere"):
            for sent in (b"", b"authorization: Bearer wrong\r\n", b"authorization: " + TOKEN.encode()[:-1] + b"\r\n"):
                request = b"GET %s HTTP/1.1\r\nhost: m.default.localhost\r\n%s\r\n" % (path.encode(), sent)
                status, headers, body = await raw(port, request)
                assert (status, headers["www-authenticate"]) == (401, 'bearer realm="slipway"')
                assert json.loads(body) == {"error": "a bearer token is needed, and this is none"}
        # Strangers do not learn which services there are.
        assert (await here.ask(host="films.default.localhost"))[0] == 401
        assert not replica.asked

        status, body = await here.ask({"authorization": f"Bearer {TOKEN}"})
        assert (status, "authorization" in body["headers"]) == (200, False)

        # A service's own token takes the place of the gateway's.
        await here.routed(("m-1", 100), replicas={"m-1": [replica]}, token="another-token-of-the-service")
        assert (await here.ask({"authorization": f"Bearer {TOKEN}"}))[0] == 401
        assert (await here.ask({"authorization": "Bearer another-token-of-the-service"}))[0] == 200

        # Envoy shows it to nobody, and its files are ours alone.
        async with httpx.AsyncClient(trust_env=False) as client:
            assert TOKEN not in (await client.get(f"{here.gateway.admin}/config_dump")).text
        assert here.gateway.folders.envoy.stat().st_mode & 0o077 == 0

    ingress(scenario, token=TOKEN)


def test_what_is_the_operators_is_refused_however_it_is_written(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        replica = await only(here)
        for path in (
            *(
                "/metrics",
                "/metrics/",
                "/metrics?x=1",
                "/v2/../metrics",
                "/v2//../../metrics",
                "//metrics",
                "/%6detrics",
            ),
            *("/v2/repository", "/v2/repository/index", "/v2/repository/models/m/unload", "/v2/./repository/index"),
            "/inference.GRPCInferenceService/RepositoryModelUnload",
        ):
            assert (await here.ask(path=path))[0] == 404, path
        for path in ("/v2%2Frepository/index", "/v2/..%2fmetrics", "/v2%5c..%5cmetrics"):
            assert (await here.ask(path=path))[0] == 400, path
        assert not replica.asked
        for path in ("/v1/models/m:predict", "/v2/models/m/infer", "/v2/models/m/ready", "/v2/models/repository/infer"):
            assert (await here.ask(path=path))[0] == 200, path
        assert [one["path"] for one in replica.asked] == [
            *("/v1/models/m:predict", "/v2/models/m/infer", "/v2/models/m/ready", "/v2/models/repository/infer")
        ]

    ingress(scenario)


def test_requests_have_limits_and_refusals_are_json(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        replica = await only(here)
        port = here.gateway.edge.port
        host = b"host: m.default.localhost\r\n"
        many = b"".join(b"x-%d: 1\r\n" % number for number in range(100))
        large = (
            b"POST /v2/models/m/infer HTTP/1.1\r\n" + host + b"content-length: %d\r\n\r\n" % (2 << 20) + bytes(2 << 20)
        )
        for request, wanted in (
            (b"GET / HTTP/1.1\r\n" + host + b"x-long: " + b"x" * 20_000 + b"\r\n\r\n", 431),
            (b"GET / HTTP/1.1\r\n" + host + many + b"\r\n", 431),
            (b"GET / HTTP/1.1\r\n" + host + b"under_score: 1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            (b"GARBAGE\r\n\r\n", 400),
            (large, 413),
        ):
            status, headers, body = await raw(port, request)
            assert status == wanted, (request[:60], status)
            if status != 400:  # what is no HTTP is answered before Envoy reads a configuration
                assert headers["content-type"] == "application/json"
                assert json.loads(body)["error"]
        assert not replica.asked
        # Envoy's own headers are Envoy's: a client turns off no retry, and is not another address.
        _, body = await here.ask({"x-envoy-max-retries": "0", "x-envoy-upstream-rq-timeout-ms": "1"})
        assert "x-envoy-max-retries" not in body["headers"]
        assert body["headers"]["x-envoy-expected-rq-timeout-ms"] == "15000"

        async with httpx.AsyncClient(trust_env=False) as client:
            for path, wanted in (
                ("/stats", 200),
                ("/quitquitquit", 403),
                ("/logging?level=trace", 403),
                ("/certs", 403),
            ):
                assert (await client.post(here.gateway.admin + path)).status_code in (wanted, 405), path

    ingress(scenario)


def test_a_service_takes_so_many_requests_a_second(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        await only(here)
        began = time.monotonic()
        statuses = [status for status, _ in await here.many([{}] * 200, connections=4)]
        assert statuses.count(200) + statuses.count(429) == 200
        assert 5 <= statuses.count(200) <= 5 * (2 + time.monotonic() - began)  # what it may save up, and a start
        request = b"GET / HTTP/1.1\r\nhost: m.default.localhost\r\n\r\n"
        for _ in range(100):  # a new second may just have begun
            status, headers, body = await raw(here.gateway.edge.port, request)
            if status == 429:
                break
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(body) == {"error": "more requests a second than this service takes"}
        await asyncio.sleep(1.1)
        assert (await here.ask())[0] == 200

    ingress(scenario, rate=5)  # few: the slowest machine asks more often


class Authority:
    """Signs certificates for a few minutes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._sign(self.name, self.key.public_key(), ca=True)
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key: Any, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(minutes=10))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return (builder if ca else builder.add_extension(names, critical=False)).sign(self.key, hashes.SHA256())

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        cert, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(self._sign(subject, key.public_key(), ca=False).public_bytes(serialization.Encoding.PEM))
        pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
        return cert, secret


def test_only_clients_with_a_certificate_of_ours_get_in(ingress: Run, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.issue("server")

    def context(client: tuple[Path, Path] | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(ours.path))
        if client:
            made.load_cert_chain(*client)
        return made

    async def scenario(here: Any) -> None:
        await only(here)
        url = f"https://127.0.0.1:{here.gateway.edge.port}/v2/models/m/infer"

        async def ask(verify: ssl.SSLContext) -> int:
            async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
                return (await client.post(url, headers={"host": "m.default.localhost"}, json={})).status_code

        assert await ask(context(ours.issue("client"))) == 200
        for stranger in (None, theirs.issue("stranger")):
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await ask(context(stranger))
        old = context(ours.issue("old"))
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await ask(old)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await raw(here.gateway.edge.port, b"GET / HTTP/1.1\r\nhost: m.default.localhost\r\n\r\n")

    ingress(scenario, tls=Tls(cert, key, ours.path))


def test_a_service_behind_tls_says_so_and_our_own_client_trusts_the_certificate_that_is_set(
    embedded: Any, tmp_path: Path
) -> None:
    cert, key = Authority(tmp_path, "ours").issue("server")
    other, _ = Authority(tmp_path, "theirs").issue("other")
    embedded.settings = embedded.settings.model_copy(update={"tls_cert": cert, "tls_key": key})
    assert embedded.up().scheme == "https"
    url = embedded.deploy("one")
    assert url == f"https://movies.default.localhost:{embedded.settings.http_port}"

    def ask(env: Settings) -> int:
        base, host = address(url)
        with httpx.Client(base_url=base, headers=host, trust_env=False, verify=trusted(env)) as client:
            return client.post("/v2/models/movies/infer", json={}).status_code

    assert ask(embedded.settings) == 200
    for stranger in (other, None):
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            ask(embedded.settings.model_copy(update={"tls_cert": stranger}))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"edge_token": "short"}, "not 16 to 256"),
        ({"edge_token": "with a space in its middle"}, "not 16 to 256"),
        ({"edge_token_file": Path("/no/such/file")}, "cannot be read"),
        ({"tls_cert": Path("/no/such.crt")}, "needs a certificate and its key"),
        (
            {"tls_cert": Path("/no/such.crt"), "tls_key": Path("/no/such.key")},
            "SLIPWAY_TLS_CERT /no/such.crt is no file",
        ),
        ({"tls_client_ca": Path("/no/such.crt")}, "needs a certificate and its key"),
        ({"http_host": "0.0.0.0"}, "lets other machines in"),
        ({"http_host": "example.com"}, "is no IP address"),
    ],
)
def test_what_would_not_protect_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Edge.of(Settings(**given))


def test_a_token_comes_from_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    edge = Edge.of(Settings(http_host="0.0.0.0", edge_token_file=tmp_path / "token"))
    assert (edge.token, edge.host, Edge.of(Settings()).host) == (TOKEN, "0.0.0.0", "127.0.0.1")
