"""What containers of our images run exists: each command of slipway with its options, in every overlay."""

from collections.abc import Iterator

import pytest
from typer.main import get_command

from cli.main import app
from cluster import overlays
from cluster.objects import listed
from cluster.pods import pods

FOLDERS = ("apps/production", "apps/staging", "events", "platform", "streams")


def problem(words: list[str]) -> str:
    """ "" when the command line takes the words; `$(…)` is filled in later."""
    known = get_command(app)
    left = list(words)
    while hasattr(known, "commands"):
        if not left or left[0] not in known.commands:
            return f"there is no slipway {' '.join(words)}"
        known = known.commands[left.pop(0)]
    options = {name for parameter in known.params for name in (*parameter.opts, *parameter.secondary_opts)}
    wrong = [word for word in left if word.startswith("-") and word.partition("=")[0] not in options]
    return f"slipway {' '.join(words)}: there is no {', '.join(wrong)}" if wrong else ""


@pytest.fixture(scope="module")
def commands() -> list[tuple[str, list[str]]]:
    return list(_commands())


def _commands() -> Iterator[tuple[str, list[str]]]:
    for built in overlays.build_all(overlays.choose(FOLDERS)):
        for thing in built.objects:
            for pod in pods(thing):
                for _, container in pod.containers():
                    words = [str(w) for w in (*listed(container, "command"), *listed(container, "args"))]
                    if words[:1] == ["slipway"]:
                        yield str(thing), words[1:]


def test_every_command_exists_with_its_options(commands: list[tuple[str, list[str]]]) -> None:
    assert len({words[0] for _, words in commands}) >= 5, commands
    assert [(of, wrong) for of, words in commands if (wrong := problem(words))] == []


@pytest.mark.parametrize(
    "words", [["ingest", "--source", "stream", "--folow"], ["data", "materialize"], ["trigger"], ["trigger", "serv"]]
)
def test_a_misspelt_one_is_caught(words: list[str]) -> None:
    assert problem(words)
