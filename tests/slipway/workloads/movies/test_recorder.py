"""What becomes of an answer, and of a user's id, on its way into the log."""

import hashlib
import hmac

import numpy as np
import orjson
import pytest

from slipway.errors import ConfigError
from slipway.redaction import FIRST, Redaction, User
from slipway.settings import Settings
from slipway.workload import Answered, Prediction, Served
from slipway.workloads.movies import messages
from slipway.workloads.movies.recorder import MoviesRecorder

NOW = 1_790_000_000_000
SERVED = Served("movies", "p1", "rev-2")
KEY = b"sixteen characters"


def answered(users, *, shadow=False, stages=None, **outputs):
    B = len(users)
    tensors = {
        "item_id": np.array([[7, 8, -1]] * B),
        "score": np.array([[0.5, 0.25, 0]] * B, dtype=np.float32),
        "source": np.array([["ranker", "counts", "none"]] * B, dtype=object),
    } | outputs
    inputs = {"user_id": np.array(users), "session": np.array([[1, -1]] * B)}
    prediction = Prediction(tensors, {"fallback": "session", "features": "late"}, stages or {})
    return Answered("r", inputs, prediction, NOW, 0.00125, shadow)


def sound(recorder, answer):
    """The messages as the consumer reads them; every one of them is sound."""
    shown = recorder.shown(answer)
    texts = [orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY) for _, message in shown]
    kinds = {kind for kind, _ in shown}
    cleaned = messages.clean(texts, *kinds, messages.rules(NOW))
    assert cleaned.bad.is_empty()
    return kinds, cleaned.good.to_dicts()


def test_an_answer_is_a_sound_exposure_without_its_padding():
    kinds, (row,) = sound(MoviesRecorder(SERVED, Redaction()), answered([3], stages={"ranker": 0.0005}))
    assert kinds == {"exposures"}
    assert {name: row[name] for name in row if name not in ("line", "timestamp")} == {
        "request_id": "r",
        "user": 3,
        "items": [7, 8],
        "scores": [0.5, 0.25],
        "sources": ["ranker", "counts"],
        "propensities": [1.0, 1.0],
        "session": [1],
        "model": "movies",
        "package": "p1",
        "revision": "rev-2",
        "fallback": "session",
        "milliseconds": 1.25,
        "features": "late",
        "stages": ["ranker"],
        "stage_milliseconds": [0.5],
    }


def test_each_user_of_a_request_is_an_exposure_and_a_mirrored_one_is_a_shadow():
    propensity = np.array([[0.5, 0.4, 0.1]] * 2, dtype=np.float32)
    kinds, rows = sound(MoviesRecorder(SERVED, Redaction()), answered([3, 4], shadow=True, propensity=propensity))
    assert kinds == {"shadows"}
    assert [(row["request_id"], row["user"]) for row in rows] == [("r#0", 3), ("r#1", 4)]
    assert rows[0]["propensities"] == pytest.approx([0.5, 0.4])
    nothing = answered([3], item_id=np.array([[-1, -1, -1]]))
    assert MoviesRecorder(SERVED, Redaction()).shown(nothing) == []


@pytest.mark.parametrize("user", list(User))
def test_what_is_redacted_still_joins_with_its_feedback(user):
    recorder = MoviesRecorder(SERVED, Redaction(user, session=False, scores=False, key=KEY))
    _, (row,) = sound(recorder, answered([3]))
    assert (row["session"], row["scores"]) == (None, None)
    event = {"event_id": "e", "request_id": "r", "user": 3, "item": 7, "timestamp": NOW, "action": "click"}
    said = recorder.heard([event, event | {"event_id": "f", "request_id": "s"}], NOW)
    assert said[0].message["user"] == row["user"]
    assert (row["user"] == 3) is (user is User.PLAIN)
    assert (said[1].message["user"] == row["user"]) is (user is not User.NONE)  # another request of the same person
    assert event["user"] == 3  # the client's own is left alone


def test_a_hash_is_keyed_and_meets_nobodys_id():
    digest = hmac.new(KEY, b"42", hashlib.sha256).digest()
    mine = Redaction(User.HASH, key=KEY).identity(42, "r")
    assert mine == FIRST + int.from_bytes(digest[:16]) % FIRST
    assert FIRST <= mine < 10**18
    assert Redaction(User.HASH, key=KEY + b"!").identity(42, "r") != mine
    with pytest.raises(ConfigError, match="SLIPWAY_CAPTURE_SECRET"):
        Redaction(User.HASH)


def test_settings_say_whether_and_how(monkeypatch):
    for name in ("EVENTS_URL", "CAPTURE", "CAPTURE_SECRET"):
        monkeypatch.delenv(f"SLIPWAY_{name}", raising=False)
    assert not Settings().captures
    monkeypatch.setenv("SLIPWAY_EVENTS_URL", "redis://127.0.0.1:6379/0")
    assert Settings().captures
    monkeypatch.setenv("SLIPWAY_CAPTURE", "false")
    assert not Settings().captures
    monkeypatch.setenv("SLIPWAY_CAPTURE_USER", "hash")
    with pytest.raises(ValueError, match="SLIPWAY_CAPTURE_SECRET"):
        Settings()
    monkeypatch.setenv("SLIPWAY_CAPTURE_SECRET", KEY.decode())
    assert Redaction.of(Settings()) == Redaction(User.HASH, key=KEY)
    assert KEY.decode() not in repr(Settings()) + repr(Redaction.of(Settings()))
