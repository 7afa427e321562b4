"""`--data lake…` in words, and the version that it means."""

import polars as pl
import pytest

from slipway.errors import ConfigError, StorageError
from slipway.lake.lake import Lake
from slipway.lake.reference import Reference, is_reference


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("lake", Reference("shop")),
        ("lake:ml-1m", Reference("ml-1m")),
        ("lake:ml-1m@12", Reference("ml-1m", 12)),
    ],
)
def test_what_the_words_mean(text, means):
    assert is_reference(text)
    assert Reference.parse(text, "shop") == means
    assert Reference.parse(str(means), "another") == means


@pytest.mark.parametrize("text", ["lake:", "lake:@3", "lake:ML", "lake:shop@", "lake:shop@-1", "lake:shop@x", "lakes"])
def test_other_words_are_refused(text):
    with pytest.raises(ConfigError, match="names no data set"):
        Reference.parse(text, "shop")


def test_a_folder_is_no_reference():
    assert not any(map(is_reference, ["./lake", "lakes", "simulated", "s3://lake/x"]))


def test_the_version_of_now_and_versions_that_are_not_there(tmp_path):
    lake = Lake(tmp_path.as_uri())
    with pytest.raises(StorageError, match="no table"):
        Reference("shop").resolved(lake)
    for expected in range(2):
        lake.table("processed", "shop", "events").append(pl.DataFrame({"user": [1]}))
        assert str(Reference("shop").resolved(lake)) == f"lake:shop@{expected}"
    assert Reference("shop", 0).resolved(lake) == Reference("shop", 0)
    with pytest.raises(StorageError, match="no version 7"):
        Reference("shop", 7).resolved(lake)
