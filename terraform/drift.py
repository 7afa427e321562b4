#!/usr/bin/env python3
"""Has anybody changed what Terraform made, or the code what was applied? Needs terraform and Python, nothing else.

    terraform/drift.py terraform/aws/storage -var environment=staging -var suffix=proj07

Plans (and changes nothing); what follows the folder goes to `terraform plan`. Exits with 0 when the world, the state
and the code agree, with 2 when they do not (each object, and what to do), with 1 when Terraform itself fails.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


def messages(lines: Iterable[str]) -> Iterator[dict]:
    """terraform plan -json: one message a line (developer.hashicorp.com/terraform/internals/machine-readable-ui)."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            print(line.rstrip(), file=sys.stderr)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(__doc__)
        return 0 if arguments else 1
    folder = Path(arguments[0])
    if not any(folder.glob("*.tf")):
        print(
            f"{folder} holds no configuration\n  → name one of the stacks, such as terraform/aws/storage",
            file=sys.stderr,
        )
        return 1
    command = ["terraform", f"-chdir={folder}", "plan", "-input=false", "-detailed-exitcode", "-json", *arguments[1:]]
    outside: dict[str, str] = {}
    planned: dict[str, str] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for message in messages(process.stdout):
                match message.get("type"):
                    case "resource_drift":
                        outside[message["change"]["resource"]["addr"]] = message["change"]["action"]
                    case "planned_change":
                        planned[message["change"]["resource"]["addr"]] = message["change"]["action"]
                    case "diagnostic" if message["diagnostic"]["severity"] == "error":
                        problem = message["diagnostic"]
                        print(f"{problem['summary']}\n{problem.get('detail', '')}".rstrip(), file=sys.stderr)
        except KeyboardInterrupt:
            process.wait()  # it has the signal too, and lets go of the state's lock
            return 130
    # terraform tells of drift that it would not undo as well (tags that AWS adds): only what a plan acts on is drift.
    drifted = {address: planned[address] for address in outside if address in planned}
    for address, action in drifted.items():
        print(f"drift: {address} was changed outside of Terraform ({outside[address]}); an apply would {action} it")
    for address, action in planned.items():
        if address not in drifted:
            print(f"ahead: {address}: the code is not applied; an apply would {action} it")
    if process.returncode == 2:
        again = shlex.join(["terraform", f"-chdir={folder}", "apply", *arguments[1:]])
        print(f"  → put it back by: {again}; or write it into the code, if it is right")
    elif process.returncode == 0:
        print(f"{folder}: the world, the state and the code agree")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
