import re
import tomllib
from pathlib import Path

import pytest

from images.catalogue import IMAGES, named
from slipway import __version__
from slipway.errors import ImageError

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "images" / "Dockerfile").read_text()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ImageError) as refused:
        named(["serving", "servnig"])
    assert "servnig" in refused.value.message
    assert "serving" in refused.value.remedy


def test_names_are_taken_in_both_forms_and_no_name_means_all():
    assert [image.name for image in named(["slipway-stream", "serving", "stream"])] == ["stream", "serving"]
    assert named([]) == list(IMAGES)


def test_an_image_has_one_name_here_and_one_in_a_registry():
    (serving,) = named(["serving"])
    assert serving.tag == f"localhost/slipway-serving:{__version__}"
    assert serving.remote("registry.example.com/slipway/") == f"registry.example.com/slipway/serving:{__version__}"


def test_each_image_is_a_target_of_the_dockerfile_and_says_so():
    """The last stage of that name, down to the next FROM."""
    for image in IMAGES:
        stage = re.search(rf"^FROM \S+ AS {image.name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
        assert stage, image.name
        assert f'image.title="{image.full_name}"' in stage[1]
        assert f'image.description="{image.title}"' in stage[1]
        assert f"ARG VERSION={__version__}\n" in stage[1]
        assert "USER 10001:10001" in stage[1]


def test_what_pyproject_installs_reaches_the_builder():
    """A new package that .dockerignore leaves out would be missed at run time only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    taken = (ROOT / "images" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in packages} <= set(taken)
    assert "!feature_repo" in taken


def test_torch_and_uv_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for name, text in (("torch", DOCKERFILE), ("uv", (ROOT / "images" / "locks" / "tools.txt").read_text())):
        pin = re.search(rf"\b{name}==([\w.]+)", makefile)
        assert pin
        assert f"{name}=={pin[1]}" in text
