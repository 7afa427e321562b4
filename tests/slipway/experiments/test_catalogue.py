import pytest

from slipway.errors import ConfigError
from slipway.experiments import catalogue


def test_every_experiment_has_a_line_and_can_be_run():
    known = catalogue.known("movies")
    assert {"strategies", "workers", "tuning"} <= known.keys()
    assert "probe" not in known  # a part, not an experiment
    assert all(len(line) > 10 and "\n" not in line for line in known.values())
    for name in ("strategies", "workers", "tuning"):
        assert callable(catalogue.load("movies", name).run)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(ConfigError, match="no experiment 'loses'") as caught:
        catalogue.load("movies", "loses")
    assert "strategies" in caught.value.remedy
    with pytest.raises(ConfigError, match="no workload"):
        catalogue.known("cinema")
