"""A file of Terraform's, for who asks what it makes. Knows HCL's form only."""

from pathlib import Path
from typing import Any

from slipway.errors import ConfigError


def read(path: Path) -> dict[str, Any]:
    """Raises ConfigError for what is none."""
    import hcl2
    from lark.exceptions import LarkError

    try:
        return dict(hcl2.loads(path.read_text()))
    except (LarkError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0].rstrip(" .")
        raise ConfigError(f"{path} cannot be read: {said}", f"correct it: terraform fmt {path}") from error
