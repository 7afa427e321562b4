"""What Envoy does with routes: retries, copies, sticky users, tags; a real Envoy before replicas that can be ended."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from serving.embedded.routes import Replica, Route, Upstream

Run = Callable[..., None]
BOTH = (("m-2", 50), ("m-1", 50))


async def until(holds: Callable[[], bool]) -> None:
    """Copies arrive when they arrive."""
    async with asyncio.timeout(90):
        while not holds():
            await asyncio.sleep(0.02)


async def counted(here: Any, revision: str, holds: Callable[[Any], bool]) -> Any:
    """The revision's counts once they are so: Envoy reads the answer to a copy when it reads it."""
    async with asyncio.timeout(90):
        while not holds(counts := (await here.gateway.stats())[revision]):
            await asyncio.sleep(0.05)
    return counts


def answers(found: list[tuple[int, Any]]) -> Counter[tuple[int, str]]:
    return Counter((status, body.get("revision", "")) for status, body in found)


def test_no_request_is_lost_and_the_failures_of_a_revision_are_seen(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        a, b = await here.replicas("m-1", "m-1"), await here.replicas("m-2", "m-2")
        await here.routed(*BOTH, replicas={"m-1": a, "m-2": b})
        assert {status for status, _ in await here.many([{}] * 400)} == {200}

        # An answer is the revision's own, were it a 500: nobody else is asked.
        found = answers(await here.many([{"x-code-m-2": "500"}] * 100))
        errors = found[500, "m-2"]
        assert errors + found[200, "m-1"] == 100
        seen = await here.gateway.stats()
        assert (seen["default.m-2"].server_errors, seen["default.m-2"].unanswered) == (errors, 0)
        assert seen["default.m-1"].errors == 0
        assert seen["default.m-1"].requests + seen["default.m-2"].requests == 500

        # Reset with the request in progress: the other revision answers, the first one's loss is counted.
        assert answers(await here.many([{"x-abort": "m-2"}] * 100)) == {(200, "m-1"): 100}
        lost = (await here.gateway.stats())["default.m-2"].unanswered
        assert lost >= 25

        # One of two replicas ends under load: the split stays as it is.
        load = asyncio.create_task(here.many([{}] * 2000))
        await asyncio.sleep(0.1)
        b[0].end()
        found = answers(await load)
        assert found.keys() == {(200, "m-1"), (200, "m-2")}
        assert found[200, "m-2"] == pytest.approx(1000, abs=120)

        # The other one too: all are answered by the other revision, and each is an error of this one.
        before = (await here.gateway.stats())["default.m-2"]
        b[1].end()
        found = answers(await here.many([{}] * 400))
        await asyncio.sleep(0.7)  # by now Envoy knows, as a rule, and does not try it at all
        found += answers(await here.many([{}] * 400))
        assert found == {(200, "m-1"): 800}
        after = (await here.gateway.stats())["default.m-2"]
        # 400 of the 800 were meant for it; one that both of its replicas lose counts twice, until Envoy knows.
        assert 250 <= after.unanswered - before.unanswered <= 2 * 550
        assert after.ok == before.ok

        # Envoy starts over: the counts go on.
        await here.gateway.child.stop(0)
        await here.gateway.start()
        await here.many([{}] * 100)
        assert (await here.gateway.stats())["default.m-2"].requests >= after.requests

        # Without either there is nobody to ask.
        for one in a:
            one.end()
        assert {status for status, _ in await here.many([{}] * 20)} == {503}

    ingress(scenario)


def test_replicas_come_and_go_under_load(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        a, b = await here.replicas("m-1"), await here.replicas("m-2", "m-2", "m-2")
        await here.routed(("m-1", 100), replicas={"m-1": a})
        load = asyncio.create_task(here.many([{}] * 4000))
        for step in range(3):
            await here.routed(("m-2", 30), ("m-1", 70), replicas={"m-1": a, "m-2": b[step:]})
            await here.routed(("m-2", 70), ("m-1", 30), replicas={"m-1": a, "m-2": b[: 3 - step]})
        await here.routed(("m-2", 100), replicas={"m-1": a, "m-2": b[:1]})
        assert {status for status, _ in await load} == {200}
        counts = await here.gateway.stats()
        assert sum(one.requests for one in counts.values()) == 4000
        assert not any(one.errors for one in counts.values())

    ingress(scenario)


def test_a_copy_goes_to_the_candidate_and_nobody_sees_its_answer(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        (a,), (b,) = await here.replicas("m-1"), await here.replicas("m-2")
        both: dict[str, Any] = {"replicas": {"m-1": [a], "m-2": [b]}, "mirror": ("default.m-2", 100)}
        await here.routed(("m-1", 100), **both)
        ids = [f"request-{number}" for number in range(100)]
        found = await here.many([{"x-request-id": one, "x-code-m-2": "500"} for one in ids])
        assert answers(found) == {(200, "m-1"): 100}
        await until(lambda: len(b.asked) == 100)
        assert sorted(one["headers"]["x-request-id"] for one in b.asked) == sorted(ids)
        assert {one["headers"]["host"] for one in b.asked} == {"m.default.localhost-shadow"}
        assert {one["headers"]["host"] for one in a.asked} == {"m.default.localhost"}
        assert b.asked[0]["body"] == "{}"

        # A copy says so, and nobody else can.
        claimed = {"x-slipway-traffic": "shadow", "x-request-id": "claimed"}
        assert (await here.ask(claimed))[0] == 200
        await until(lambda: len(b.asked) == 101)
        assert {one["headers"].get("x-slipway-traffic") for one in b.asked} == {"shadow"}
        assert {one["headers"].get("x-slipway-traffic") for one in a.asked} == {None}
        b.asked.pop()

        # Without a client's id Envoy makes one, the same for both.
        await here.ask()
        await until(lambda: len(b.asked) == 101)
        assert b.asked[-1]["headers"]["x-request-id"] == a.asked[-1]["headers"]["x-request-id"]

        # What a user did is counted once; who claims to be a copy is nobody's host.
        await here.ask(path="/v1/feedback")
        assert (await here.ask(host="m.default.localhost-shadow"))[0] == 404
        await asyncio.sleep(0.1)
        assert len(b.asked) == 101

        counts = await counted(here, "default.m-2", lambda seen: seen.shadow.requests >= 102)
        counts = await counted(here, "default.m-2", lambda seen: seen.shadow.server_errors >= 100)
        assert (counts.requests, counts.shadow.requests, counts.shadow.server_errors) == (0, 102, 100)
        b.end()
        assert answers(await here.many([{}] * 100)) == {(200, "m-1"): 100}
        await counted(here, "default.m-2", lambda seen: seen.shadow.unanswered >= 99)

        quarter = await here.replicas("m-2")
        await here.routed(("m-1", 100), replicas={"m-1": [a], "m-2": quarter}, mirror=("default.m-2", 25))
        await here.many([{}] * 1000)
        await until(lambda: len(quarter[0].asked) > 190)
        await asyncio.sleep(0.3)
        assert len(quarter[0].asked) == pytest.approx(250, abs=60)

    ingress(scenario)


def test_a_user_stays_with_a_revision_and_a_larger_share_only_takes_from_the_other(ingress: Run) -> None:
    users = [{"x-slipway-user": str(number)} for number in range(2000)]

    async def scenario(here: Any) -> None:
        (a,), (b,), (c,) = [await here.replicas(name) for name in ("m-1", "m-2", "m-3")]

        async def candidates(name: str, percent: int) -> set[int]:
            await here.routed(
                (name, percent),
                ("m-1", 100 - percent),
                replicas={"m-1": [a], "m-2": [b], "m-3": [c]},
                sticky="x-slipway-user",
            )
            found = await here.many(users, connections=16)
            assert {status for status, _ in found} == {200}
            return {number for number, (_, body) in enumerate(found) if body["revision"] == name}

        five, twenty_five, fifty = [await candidates("m-2", percent) for percent in (5, 25, 50)]
        assert five < twenty_five < fifty
        for found, percent in ((five, 5), (twenty_five, 25), (fifty, 50)):
            # Of 2,000 users; a hash has the spread of a fair draw.
            assert len(found) / 20 == pytest.approx(percent, abs=3 * (percent * (100 - percent) / 2000) ** 0.5)
        assert await candidates("m-2", 50) == fifty  # the same at repeat
        # The next candidate meets other users first.
        assert len(await candidates("m-3", 5) & five) < 30
        # Who has no name is split by chance.
        found = answers(await here.many([{}] * 1000))
        assert found[200, "m-3"] == pytest.approx(50, abs=30)

    ingress(scenario)


def test_a_tag_is_that_revision_and_no_other(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        (a,), (b,) = await here.replicas("m-1"), await here.replicas("m-2")
        tags = (("latest", "default.m-2"), ("prev", "default.m-1"))
        await here.routed(("m-1", 100), replicas={"m-1": [a], "m-2": [b]}, tags=tags)
        for tag, wanted in (("latest", "m-2"), ("prev", "m-1")):
            assert answers(await here.many([{}] * 5, host=f"{tag}-m.default.localhost")) == {(200, wanted): 5}
        b.end()
        assert (await here.ask(host="latest-m.default.localhost"))[0] == 503

    ingress(scenario)


class Servicer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers any method with its own name."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, list[dict[str, str]]()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self.asked.append({"method": details.method} | dict(context.invocation_metadata() or ()))
            return self.name.encode()

        return grpc.unary_unary_rpc_method_handler(answer)


def test_grpc_is_split_copied_refused_and_tried_again_as_http_is(ingress: Run) -> None:
    async def scenario(here: Any) -> None:
        servicers, servers, upstreams = [Servicer("m-1"), Servicer("m-2")], [], {}
        for servicer in servicers:
            server = grpc.aio.server(handlers=[servicer])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            servers.append(server)
            name = f"default.{servicer.name}"
            upstreams[name] = Upstream(name, (Replica(1, port),))
        split = Route("default.m", (here.host,), (("default.m-2", 50), ("default.m-1", 50)))
        await here.gateway.apply(upstreams, [split])
        target, options = f"127.0.0.1:{here.gateway.edge.port}", [("grpc.default_authority", here.host)]
        async with grpc.aio.insecure_channel(target, options=options) as channel:

            async def call(method: str = "ModelInfer", **metadata: str) -> str:
                infer = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                answer: bytes = await infer(b"", metadata=tuple(metadata.items()), timeout=10)
                return answer.decode()

            answers = Counter([await call() for _ in range(100)])
            assert answers["m-2"] == pytest.approx(50, abs=25)
            with pytest.raises(grpc.aio.AioRpcError):
                await call("RepositoryModelUnload")
            assert {one["method"] for servicer in servicers for one in servicer.asked} == {
                "/inference.GRPCInferenceService/ModelInfer"
            }

            copied = Route("default.m", (here.host,), (("default.m-1", 100),), mirror=("default.m-2", 100))
            await here.gateway.apply(upstreams, [copied])
            before = len(servicers[1].asked)
            assert {await call() for _ in range(20)} == {"m-1"}
            await until(lambda: len(servicers[1].asked) == before + 20)
            assert {one.get("x-slipway-traffic") for one in servicers[1].asked[before:]} == {"shadow"}
            assert not any("x-slipway-traffic" in one for one in servicers[0].asked), (
                "of what people asked nobody says so"
            )
            counts = await counted(here, "default.m-2", lambda seen: seen.shadow.requests >= 20)
            assert counts.shadow.requests == 20

            await here.gateway.apply(upstreams, [split])
            await servers[1].stop(None)
            assert {await call() for _ in range(50)} == {"m-1"}
            assert (await here.gateway.stats())["default.m-2"].unanswered > 0

            await here.gateway.apply(upstreams, [Route("default.m", (here.host,), split.weights, token="t" * 20)])
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert await call(authorization="Bearer " + "t" * 20) == "m-1"
        await servers[0].stop(None)

    ingress(scenario)
