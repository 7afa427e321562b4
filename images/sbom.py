"""What is in a built image, as CycloneDX 1.6: Python, its packages, Debian's. Knows the format, asks the image itself.

An SBOM made from a lock says what should be there; this one says what is.
"""

import json
import subprocess
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from images import engine
from images.catalogue import Image
from slipway.errors import ImageError

COMMIT = "org.opencontainers.image.revision"


def write(image: Image, path: Path) -> int:
    """How many components there are. The same image gives the same file. Raises ImageError."""
    about = engine.inspect(image.tag)
    if about is None:
        raise ImageError(f"{image.name} is not built", f"python -m images build {image.name}")
    bom = document(image, about, inventory(image))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}", "name another folder: --out") from error
    return len(bom.components)


def inventory(image: Image) -> dict[str, Any]:
    """inventory.py's object, from a container of this image."""
    script = Path(__file__).with_name("inventory.py").read_text()
    done = subprocess.run(
        engine.confined(image.tag, "-I", "-", options=["--interactive", "--entrypoint=python"]),
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImageError(
            f"{image.name} does not run: {done.stderr.strip()[-500:]}", engine.remedy(done.stderr) or "see: podman info"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def document(image: Image, about: dict[str, Any], found: dict[str, Any]) -> Bom:
    """about: podman's word on the image. found: inventory.py's."""
    licences = LicenseFactory()
    labels = about.get("Labels") or {}
    whole = Component(
        type=ComponentType.CONTAINER,
        name=image.full_name,
        version=labels.get(COMMIT, ""),
        bom_ref=f"oci:{about['Id']}",
        purl=PackageURL("oci", None, image.full_name, f"sha256:{about['Id']}"),
        description=image.title,
    )
    python = found["python"]
    parts = [
        Component(
            type=ComponentType.PLATFORM,
            name="cpython",
            version=python,
            bom_ref=f"cpython@{python}",
            purl=PackageURL("generic", None, "cpython", python),
        )
    ]
    for name, version, licence in found["packages"]:
        purl = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        parts.append(
            Component(
                type=ComponentType.LIBRARY,
                name=name,
                version=version,
                bom_ref=str(purl),
                purl=purl,
                licenses=[licences.make_from_string(licence)] if licence else [],
            )
        )
    for name, version, architecture in found["debian"]:
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": found["system"]})
        parts.append(Component(type=ComponentType.LIBRARY, name=name, version=version, bom_ref=str(purl), purl=purl))
    created = datetime.fromisoformat(about["Created"].partition(".")[0].removesuffix("Z") + "+00:00")
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, about["Id"]),
        metadata=BomMetaData(component=whole, timestamp=created),
        components=parts,
    )
    bom.register_dependency(whole, parts)
    return bom
