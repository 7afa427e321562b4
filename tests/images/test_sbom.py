import json

import pytest
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import inventory, sbom
from images.catalogue import named
from slipway.errors import ImageError

ABOUT = {
    "Id": "ab" * 32,
    "Created": "2026-11-22T03:04:05.123456789Z",
    "Labels": {"org.opencontainers.image.revision": "c" * 40},
}
FOUND = {
    "python": "3.11.2",
    "system": "bookworm",
    "packages": [["numpy", "2.4.0", "BSD-3-Clause"], ["torch", "2.13.0+cpu", "BSD-3-Clause AND MIT"], ["x_y", "1", ""]],
    "debian": [["libgomp1", "12.2.0-14", "amd64"]],
}


def test_the_document_is_valid_and_says_what_was_found():
    text = JsonV1Dot6(sbom.document(named(["training"])[0], ABOUT, FOUND)).output_as_string()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["metadata"]["component"]["name"] == "slipway-training"
    assert document["metadata"]["component"]["version"] == "c" * 40
    purls = {component["purl"] for component in document["components"]}
    assert purls == {
        "pkg:generic/cpython@3.11.2",
        "pkg:pypi/numpy@2.4.0",
        "pkg:pypi/torch@2.13.0%2Bcpu",
        "pkg:pypi/x-y@1",
        "pkg:deb/debian/libgomp1@12.2.0-14?arch=amd64&distro=bookworm",
    }


def test_the_same_image_gives_the_same_document():
    image = named(["training"])[0]
    first, second = (JsonV1Dot6(sbom.document(image, ABOUT, FOUND)).output_as_string() for _ in range(2))
    assert first == second


def test_an_image_that_is_not_built_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sbom.engine, "inspect", lambda _: None)
    with pytest.raises(ImageError, match="serving is not built") as refused:
        sbom.write(named(["serving"])[0], tmp_path / "x.json")
    assert refused.value.remedy == "python -m images build serving"


def test_debian_packages_are_those_that_are_installed(tmp_path):
    status = tmp_path / "status"
    status.write_text(
        "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2\nDescription: x\n y: z\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    assert inventory.debian(str(status)) == [["zlib1g", "1:1.2", "amd64"]]
    assert inventory.debian(str(tmp_path / "none")) == []


def test_python_packages_are_those_of_this_python():
    found = {name.lower(): version for name, version, _ in inventory.packages()}
    assert found["numpy"]
    assert found["kserve"] == "0.21.0"
