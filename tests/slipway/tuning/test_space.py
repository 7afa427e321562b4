import pytest
import yaml
from pydantic import BaseModel

from slipway import workload
from slipway.errors import ConfigError
from slipway.tuning import space
from slipway.tuning.space import SearchSpace

RATE = {"name": "train.learning_rate", "kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
DIM = {"name": "train.ranker.dim", "kind": "choice", "values": [8, 16]}
LAYERS = {"name": "train.ranker.layers", "kind": "int", "low": 1, "high": 3}


def movies(overrides):
    return workload.load("movies").config("demo", overrides)


def of(*parameters, **more):
    return SearchSpace.model_validate({"metric": "m", "parameters": parameters, **more})


def test_movies_own_space_fits_every_profile_that_there_is():
    chosen = workload.load("movies")
    found = chosen.search_space()
    for profile in ("demo", "full"):
        space.check(found, lambda over, profile=profile: chosen.config(profile, over))
        assert found.default(chosen.config(profile, {})) is not None
    settled = found.settle({p.name: p.ends[0] for p in found.parameters})
    assert movies(space.nest(settled)).train.ranker.dim == settled["train.ranker.dim"]


def test_an_unknown_hyper_parameter_is_named_with_what_it_may_have_meant():
    with pytest.raises(ConfigError, match=r"'train\.learning_rat'.*does not have") as caught:
        space.check(of({**RATE, "name": "train.learning_rat"}), movies)
    assert "train.learning_rate" in caught.value.remedy
    with pytest.raises(ConfigError, match=r"'train\.nothing'"):
        space.check(of(RATE, trial={"train.nothing": 1}), movies)


def test_a_bound_that_the_configuration_refuses_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="dim"):
        space.check(of({**DIM, "values": [8, 1]}), movies)
    space.check(of(RATE, DIM, LAYERS), movies)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"metric": "m", "parameters": [{**RATE, "low": 0}]}, "begins above 0"),
        ({"metric": "m", "parameters": [{**LAYERS, "high": 1}]}, "not below"),
        ({"metric": "m", "parameters": [RATE, RATE]}, "named twice"),
        ({"metric": "m", "parameters": []}, "at least 1"),
        ({"metric": "m", "parameters": [RATE], "grace": 1}, "Extra inputs"),
        ({"metric": "m", "parameters": [{**RATE, "kind": "normal"}]}, "kind"),
        ([1], "dictionary"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path, broken, said):
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(broken))
    with pytest.raises(ConfigError, match=said):
        space.load(path)


def test_a_file_that_is_missing_or_no_yaml_is_an_error_not_a_traceback(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        space.load(tmp_path / "nowhere.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="no YAML"):
        space.load(tmp_path / "x.yaml")


def test_what_is_trained_is_what_a_person_reads():
    settled = of(RATE, DIM, LAYERS).settle(
        {"train.learning_rate": 0.0123456, "train.ranker.dim": 8, "train.ranker.layers": 2, "other": 1}
    )
    assert settled == {"train.learning_rate": 0.0123, "train.ranker.dim": 8, "train.ranker.layers": 2}
    assert of(RATE).settle({"train.learning_rate": 0.1000001}) == {"train.learning_rate": 0.1}  # never out of bounds


def test_a_default_outside_the_space_is_none_of_its_points():
    class Flat(BaseModel):
        x: float = 5.0

    inside = of({"name": "x", "kind": "float", "low": 1, "high": 9})
    outside = of({"name": "x", "kind": "float", "low": 1, "high": 4})
    assert inside.default(Flat()) == {"x": 5.0}
    assert outside.default(Flat()) is None


def test_dotted_names_nest():
    assert space.nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
