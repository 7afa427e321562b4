"""The command line and the environment of one server, as KServe and Knative make them. Pure; starts nothing."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.embedded.template import Template

MODELS = "/mnt/models"  # where KServe's storage initializer puts the package


def launch(
    template: Template, *, namespace: str, service: str, revision: str, package: Path, port: int, grpc_port: int
) -> tuple[list[str], dict[str, str]]:
    """(words, what the environment has more)."""

    def expand(text: str, env: Mapping[str, str]) -> str:
        text = text.replace("{{.Name}}", service).replace("{{.Namespace}}", namespace)
        text = re.sub(rf"{MODELS}(?=/|$)", lambda _: str(package), text)
        return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: env.get(found[1], found[0]), text)

    env = {name: expand(value, {}) for name, value in template.env.items()}
    env |= {"K_SERVICE": f"{service}-predictor", "K_REVISION": revision}  # as Knative does
    words = [expand(word, env) for word in (*template.command, *template.args)]
    if words[0] in ("python", "python3"):
        words[0] = sys.executable
    # The last one wins in argparse: on one machine every server needs ports of its own.
    words += ["--host", "127.0.0.1", "--http_port", str(port), "--grpc_port", str(grpc_port)]
    return [*words, "--revision", revision], env
