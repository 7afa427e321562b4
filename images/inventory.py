"""What is installed where this runs: Python, its packages, Debian's. Run inside an image; knows the standard library.

Prints one JSON object: {"python": …, "system": …, "packages": [[name, version, licence]], "debian": [[name, version,
architecture]]}.
"""

import json
import platform
from importlib import metadata
from pathlib import Path


def packages() -> list[list[str]]:
    found = {}
    for one in metadata.distributions():
        about = one.metadata
        licence = about.get("License-Expression") or about.get("License") or ""
        found[about["Name"].lower().replace("_", "-")] = [
            about["Name"],
            one.version,
            licence.splitlines()[0][:80] if licence else "",
        ]
    return [found[name] for name in sorted(found)]


def debian(status: str = "/var/lib/dpkg/status") -> list[list[str]]:
    path = Path(status)
    found = []
    for paragraph in path.read_text().split("\n\n") if path.exists() else []:
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            found.append([fields["Package"], fields["Version"], fields["Architecture"]])
    return sorted(found)


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "system": platform.freedesktop_os_release().get("VERSION_CODENAME", ""),
                "packages": packages(),
                "debian": debian(),
            }
        )
    )
