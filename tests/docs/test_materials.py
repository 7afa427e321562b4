"""docs/outside-materials.md is what materials.yaml says, and nothing that is used is missing from it."""

from pathlib import Path

import pytest
import yaml

from slipway import workload
from slipway.cards.about import of_format, read_materials
from slipway.cards.card import materials_page
from slipway.workloads.movies.dataset import SourceName
from slipway.workloads.movies.sources import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "outside-materials.md"
MATERIALS = read_materials(workload.folder("movies") / "materials.yaml")


def test_the_page_is_the_yaml():
    assert PAGE.read_text("utf-8") == materials_page(MATERIALS), "run: slipway cards --materials " + str(PAGE)


@pytest.mark.parametrize("name", sorted({*(f.name for f in FORMATS), *SourceName.__args__, "simulated"}))
def test_every_source_that_can_be_read_says_where_it_is_from(name):
    material = of_format(MATERIALS, name)
    assert material is not None, f"{name} is in no entry's formats"
    assert material.kind == "data set"


@pytest.mark.parametrize(
    "name", ["SASRec", "SSE-PT", "gSASRec", "Maximal marginal relevance", "LightGBM", "PyTorch", "ONNX Runtime"]
)
def test_every_model_and_algorithm_of_others_is_there(name):
    [material] = [material for material in MATERIALS if material.name == name]
    assert material.licence
    assert f"[{name}]" in PAGE.read_text("utf-8")


def test_what_may_not_be_redistributed_says_no():
    for name in ("ml-100k", "ml-1m", "ml-1m-sas"):
        assert of_format(MATERIALS, name).redistribution == "no"


def test_no_entry_leaves_a_question_open():
    for entry in yaml.safe_load((workload.folder("movies") / "materials.yaml").read_text("utf-8")):
        for key in ("who", "when", "how", "licence", "privacy", "fairness", "use", "redistribution"):
            assert len(str(entry[key]).strip()) > 1, f"{entry['name']}: {key}"
