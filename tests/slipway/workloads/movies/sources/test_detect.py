from pathlib import Path

import pytest

from slipway.errors import SourceError
from slipway.workloads.movies.sources import detect


@pytest.mark.parametrize("form", ["ml-100k", "ml-1m", "ml-csv", "ml-1m-sas", "wikipedia"])
def test_each_format_is_known_by_its_files(source_files, form):
    assert detect(source_files(form)).name == form


def test_wikipedia_prefers_the_file_with_times(source_files):
    assert detect(source_files("wikipedia")).events.timed


def test_wikipedia_without_times_is_an_order(source_files):
    source = detect(source_files("wikipedia", **{"ml_wikipedia_ts.txt": None}))
    assert not source.events.timed
    assert source.distinct == ()


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match="empty") as error:
        detect(tmp_path)
    assert all(name in str(error.value) for name in ("u.data", "ratings.dat", "ratings.csv", "ml-1m-sas.txt"))


def test_a_missing_folder(tmp_path):
    with pytest.raises(SourceError, match="no folder"):
        detect(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1::1::1\n")
    with pytest.raises(SourceError, match="is a file"):
        detect(tmp_path / "ratings.dat")


def test_two_data_sets_in_one_folder_are_both_named(source_files):
    folder = source_files("ml-1m", **{"ml-1m-sas.txt": b"1 1\n"})
    with pytest.raises(SourceError, match="several") as error:
        detect(folder)
    assert "ratings.dat" in str(error.value)
    assert "ml-1m-sas.txt" in str(error.value)


def test_a_missing_companion_is_named_with_what_was_found(source_files):
    folder = source_files("ml-100k", **{"u.item": None})
    with pytest.raises(SourceError, match=r"lacks u\.item: it has u\.data"):
        detect(folder)


def test_a_folder_in_the_place_of_a_file_is_not_that_file(tmp_path: Path):
    (tmp_path / "u.data").mkdir()
    with pytest.raises(SourceError, match="no data set that is known"):
        detect(tmp_path)
