"""Locust's side of a load test: a person who plays visits, the shape of the load, the word at the end.

python -m load_tests --slo demo --url …                                  # the same with checks, plots and a table
locust -f load_tests/locustfile.py --headless --slo demo --host http://127.0.0.1:8080 --host-header <service's host>

Knows HTTP, and when; people and answers are load_tests/movies.py's, figures load_tests/records.py's.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
import psutil
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from load_tests import movies
from load_tests.play import LEAD, Play
from load_tests.slo import Slo, breaches, judge, read, table

PREFIX = "::load:: "
BEARER = "LOAD_TESTS_TOKEN"  # of the environment
INTERRUPTED = 130

_state: dict[str, Any] = {}


@events.init_command_line_parser.add_listener
def arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--slo", default="demo", help="a name of load_tests/slo, or a YAML file")
    parser.add_argument("--out", default="", help="folder for requests.csv and result.json")
    parser.add_argument("--model", default="movies", help="name on the endpoint's path")
    parser.add_argument("--package", default="", help="model package whose users come; default: the simulator's")
    parser.add_argument("--host-header", default="", help="Host of the InferenceService, where --host is an address")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    slo = read(options.slo)
    known = movies.users(Path(options.package) if options.package else None)
    play = Play(slo.load, movies.draw(slo.load, known))
    _state.update(slo=slo, play=play, options=options, process=psutil.Process())
    Person.network_timeout = Person.connection_timeout = slo.load.timeout


@events.test_start.add_listener
def start(**_: Any) -> None:
    _state["play"].begin()
    _state["cpu"] = sum(_state["process"].cpu_times()[:2])


class Person(FastHttpUser):
    """Plays one visit after the other, whoever's it is; between two it waits until the next is due."""

    @property
    def play(self) -> Play:
        play: Play = _state["play"]
        return play

    def on_start(self) -> None:
        self.path = movies.path(_state["options"].model)
        host = _state["options"].host_header
        token = os.environ.get(BEARER, "")
        self.reach = {"Host": host} if host else {}
        self.reach |= {"Authorization": f"Bearer {token}"} if token else {}

    @task
    def visit(self) -> None:
        visit = self.play.next()
        if visit is None:
            gevent.sleep(3_600)  # until the shape ends the test
            return
        self.until(visit.start)
        self.play.enter()
        try:
            session: list[int] = []
            waited = self.play.now - visit.start > 0.05 and self.play.open(self.play.now) > self.play.playing
            for page, due in enumerate(visit.times):
                waited = waited or self.play.now > due
                self.until(due)
                items = self.ask(visit, page, session, due, waited)
                waited = False
                session += [item for item in movies.clicked(visit, page, items) if item not in session]
        finally:
            self.play.leave()

    def until(self, due: float) -> None:
        if (wait := due - self.play.now) > 0:
            gevent.sleep(wait)

    def ask(self, visit: movies.Visit, page: int, session: list[int], due: float, waited: bool) -> tuple[int, ...]:
        k = self.play.load.k
        body, headers = movies.question(visit, page, session, k)
        sent = self.play.now
        with self.client.post(
            self.path, data=body, headers=headers | self.reach, name="infer", catch_response=True
        ) as response:
            done = self.play.now
            response.request_meta["response_time"] = (done - due) * 1000  # from when it was meant: see records.py
            found, reason = movies.Answer((), "", ""), ""
            if response.status_code == 200:
                try:
                    found = movies.answer(response.content, k)
                    response.success()
                except ValueError as error:
                    reason = str(error)
            else:
                reason = f"HTTP {response.status_code}" if response.status_code else "no answer"
            if reason:
                response.failure(reason)
        degraded = not reason and found.fallback not in movies.NATURAL[visit.kind]
        self.play.record(
            due, sent, done, waited, visit.kind, response.status_code, reason, found.fallback, degraded, found.version
        )
        return found.items


class Shape(LoadTestShape):
    """Ramp, plateau, spike and recovery are in the arrivals; this keeps enough people for them, and ends the test."""

    def tick(self) -> tuple[int, float] | None:
        play: Play = _state["play"]
        done = min(max((play.now + LEAD) / (play.load.duration + LEAD), 0.0), 1.0)
        what = play.load.phase(max(play.now, 0.0))
        print(PREFIX + json.dumps({"what": what, "share": done, "metrics": play.recent()}), flush=True)
        if play.over:
            _state["over"] = True
            return None
        people = play.people
        return people, float(people)


@events.quitting.add_listener
def finish(environment: Environment, **_: Any) -> None:
    """The verdict as the exit code: 0 held, 1 broken, 130 interrupted before the end."""
    play: Play = _state["play"]
    if not _state.get("over"):
        environment.process_exit_code = INTERRUPTED
        return
    slo: Slo = _state["slo"]
    ended = play.now
    records = play.records(min(ended, play.load.duration))
    measured = records.measured(play.load, play.most, min(ended, play.load.duration))
    outcomes = judge(slo, measured)
    spent = sum(_state["process"].cpu_times()[:2]) - _state["cpu"]
    result = {
        "slo": slo.model_dump(mode="json"),
        "ended": time.time(),
        "measured": measured,
        "facts": records.facts(play.load) | {"generator_cpu_share": spent / max(ended + LEAD, 1e-9)},
        "phases": records.phases(play.load),
        "reasons": records.reasons(),
        "versions": sorted(set(records.rows["version"].to_list()) - {""}),
        "breaches": breaches(outcomes),
    }
    if _state["options"].out:
        out = Path(_state["options"].out)
        records.write(out / "requests.csv")
        (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(outcomes), flush=True)
    environment.process_exit_code = 1 if result["breaches"] else 0
