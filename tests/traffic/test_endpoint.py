"""What an answer says, whatever comes back; and whose endpoint may be asked."""

import orjson
import pytest

from slipway.errors import ConfigError
from traffic.endpoint import AskError, ensure_local, read


def test_an_answer_is_read_up_to_k_without_its_filling(an_answer):
    body = an_answer(items=[7, 9, 11, -1, -1])
    found = read(orjson.dumps(body), 10)
    assert (found.items, found.propensities, found.fallback) == ([7, 9, 11], [1.0, 1.0, 1.0], "")
    assert (found.package, found.revision, found.model) == ("abc", "rev-1", "movies")
    assert read(orjson.dumps(body), 2).items == [7, 9]
    body["outputs"].append({"name": "propensity", "data": [0.5, 0.25, 0.25, 0, 0]})
    body["parameters"]["fallback"] = "counts"
    found = read(orjson.dumps(body), 10)
    assert (found.propensities, found.fallback) == ([0.5, 0.25, 0.25], "counts")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"outputs": 3}',
        b'{"outputs": [{"name": "item_id", "data": null}]}',
        b'{"outputs": [{"name": "item_id", "data": ["7"]}]}',
    ],
)
def test_what_is_no_answer_is_an_error_that_can_be_counted(content):
    with pytest.raises(AskError, match="cannot be read"):
        read(content, 10)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://a.b.localhost:1", "http://[::1]:9"]
)
def test_this_machine_may_be_asked(url):
    ensure_local(url, allow_remote=False)


@pytest.mark.parametrize("url", ["http://10.0.0.7", "https://example.com", "http://127.0.0.1.example.com"])
def test_others_only_when_that_is_said(url):
    with pytest.raises(ConfigError, match="--allow-remote"):
        ensure_local(url, allow_remote=False)
    ensure_local(url, allow_remote=True)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", ""])
def test_what_is_no_address(url):
    with pytest.raises(ConfigError, match="no address"):
        ensure_local(url, allow_remote=True)
