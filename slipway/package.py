"""The model package: what one trained model is on disk. Data, never code: nothing here can be unpickled.

A package is a folder of files and a `package.json` that names each file's SHA-256. Its version is the hash of that
list, so equal content is one package and a changed byte is another, or none. Knows no workload and no runtime.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.errors import GoldenError, IntegrityError, SignatureError

MANIFEST = "package.json"
GOLDEN = "golden.json"

TOLERANCE = 1e-4  # of recorded floats, absolute and relative: another CPU sums in another order

Tensors = dict[str, npt.NDArray[Any]]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(Frozen):
    """One tensor of the Open Inference Protocol; -1 in shape is any length."""

    name: str
    datatype: Literal["BOOL", "INT32", "INT64", "FP32", "FP64", "BYTES"]
    shape: tuple[int, ...]
    optional: bool = False
    description: str = ""


class Signature(Frozen):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Snapshot(Frozen):
    """The data that a model learned from."""

    uri: str
    sha256: str
    events: int = Field(ge=0)


class Manifest(Frozen):
    """package.json. `files` maps each path inside the package to its SHA-256."""

    format: Literal[1] = 1
    workload: str
    version: str
    created: datetime
    git_commit: str
    pipeline_run: str
    data: Snapshot
    feature_service: str | None = None
    signature: Signature
    metrics: dict[str, float]
    files: dict[str, str]


STORED_LIST = ".sha256"  # what of <package>.sha256 (slipway/storage.py) is left below /mnt/models


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hashes(folder: Path) -> dict[str, str]:
    """POSIX path → SHA-256 of every file below folder, sorted."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): sha256(p) for p in paths}


def version_of(files: Mapping[str, str]) -> str:
    """First 12 hex digits of the hash of the sorted (path, hash) list."""
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Package:
    """An opened package: its folder was checked, byte by byte, against its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        return self.manifest.version

    def path(self, name: str) -> Path:
        """Raises IntegrityError when the manifest does not list name."""
        if name not in self.manifest.files:
            raise IntegrityError(f"package {self.version} has no file {name!r}")
        return self.folder / name

    @classmethod
    def seal(
        cls,
        folder: Path,
        *,
        workload: str,
        created: datetime,
        git_commit: str,
        pipeline_run: str,
        data: Snapshot,
        signature: Signature,
        metrics: Mapping[str, float],
        feature_service: str | None = None,
    ) -> Self:
        """Write package.json over the files already in folder; it is the last file written."""
        (folder / MANIFEST).unlink(missing_ok=True)
        files = tree_hashes(folder)
        manifest = Manifest(
            workload=workload,
            version=version_of(files),
            created=created,
            git_commit=git_commit,
            pipeline_run=pipeline_run,
            data=data,
            feature_service=feature_service,
            signature=signature,
            metrics=dict(metrics),
            files=files,
        )
        draft = folder / f".{MANIFEST}.part"
        draft.write_text(manifest.model_dump_json(indent=2) + "\n")
        draft.rename(folder / MANIFEST)
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises IntegrityError on a missing, added or changed file, or on a package.json that lies."""
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise IntegrityError(f"{folder} is no model package: it has no {MANIFEST}") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise IntegrityError(f"{folder / MANIFEST} is not valid: {error}") from error
        escaping = [n for n in manifest.files if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts]
        if escaping:
            raise IntegrityError(f"{folder / MANIFEST} names files outside the package: {escaping}")
        found = tree_hashes(folder)
        found.pop(MANIFEST)
        # KServe fetches every object whose key begins with the package's: the store's list of hashes beside it, too.
        found.pop(STORED_LIST, None)
        problems = [f"{n} is missing" for n in manifest.files.keys() - found.keys()]
        problems += [f"{n} is not listed" for n in found.keys() - manifest.files.keys()]
        problems += [f"{n} was changed" for n, d in manifest.files.items() if n in found and found[n] != d]
        if version_of(manifest.files) != manifest.version:
            problems.append(f"version {manifest.version} is not the hash of the file list")
        if problems:
            raise IntegrityError(f"package {folder} is damaged: {'; '.join(sorted(problems))}")
        return cls(folder, manifest)


@dataclass(frozen=True)
class Golden:
    """One recorded request and its answer, as tensors; how close another answer must come.

    tolerance: of floats; agreement: the share of everything else that must be found in the same row. Less than all is
    for graphs that compute in few bits, where another CPU or provider rounds one of them to the other side.
    """

    inputs: Tensors
    outputs: Tensors
    tolerance: float = TOLERANCE
    agreement: float = 1.0

    def accepts(self, name: str, got: npt.NDArray[Any]) -> bool:
        """Whether this is the recorded output `name`, as closely as is asked."""
        expected = self.outputs[name]
        if got.shape != expected.shape:
            return False
        if expected.dtype.kind == "f":
            return np.allclose(got, expected, rtol=self.tolerance, atol=self.tolerance)
        if self.agreement == 1:
            return bool((got == expected).all())
        rows = zip(np.atleast_2d(expected), np.atleast_2d(got), strict=True)
        return float(np.mean([np.isin(old, new).mean() for old, new in rows])) >= self.agreement


def write_golden(folder: Path, pairs: list[Golden]) -> None:
    """Write golden.json into a package folder that is not sealed yet."""

    def plain(tensors: Tensors) -> dict[str, Any]:
        return {
            name: {"shape": t.shape, "dtype": t.dtype.str, "data": t.ravel().tolist()} for name, t in tensors.items()
        }

    document = [
        {
            "inputs": plain(p.inputs),
            "outputs": plain(p.outputs),
            "tolerance": p.tolerance,
            "agreement": p.agreement,
        }
        for p in pairs
    ]
    (folder / GOLDEN).write_text(json.dumps(document) + "\n")


def read_golden(package: Package) -> Iterator[Golden]:
    def tensors(plain: dict[str, Any]) -> Tensors:
        return {n: np.array(t["data"], dtype=np.dtype(t["dtype"])).reshape(t["shape"]) for n, t in plain.items()}

    for pair in json.loads(package.path(GOLDEN).read_text()):
        close = pair.get("tolerance", TOLERANCE), pair.get("agreement", 1.0)
        yield Golden(tensors(pair["inputs"]), tensors(pair["outputs"]), *close)


def check_golden(package: Package, predict: Callable[[Tensors], Tensors]) -> int:
    """Ask each recorded question again; returns how many were asked.

    Raises SignatureError when an output is missing, GoldenError when an answer differs by more than was recorded
    with it: by default floats by 1e-4, everything else at all.
    """
    asked = 0
    for asked, pair in enumerate(read_golden(package), start=1):
        answer = predict(pair.inputs)
        for name in pair.outputs:
            if name not in answer:
                raise SignatureError(f"package {package.version} answers without {name!r}", "export it again")
            if not pair.accepts(name, answer[name]):
                raise GoldenError(
                    f"package {package.version} answers golden request {asked} with another {name!r} than recorded",
                    "the runtime or the package changed: train and package again with this runtime",
                )
    if not asked:
        raise GoldenError(f"package {package.version} records no golden answers", "export it again")
    return asked
