"""Tensors on the wire, checked against a signature. Knows names, types and sizes; no model, protocol or socket.

Nothing is converted: a float, a bool or a string is never an integer, so a request is either what the signature says
or an error that says what to send instead. Rank and meaning of a shape are the predictor's business.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.errors import RequestError
from slipway.package import Signature, Tensors, TensorSpec

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
KINDS: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "INT32": frozenset({int}),
    "INT64": frozenset({int}),
    "FP32": frozenset({int, float}),
    "FP64": frozenset({int, float}),
    "BYTES": frozenset({str, bytes}),
}
WORDS = {"BOOL": "true or false", "FP32": "numbers", "FP64": "numbers", "BYTES": "strings"}
MAX_RANK = 8
RAGGED_PADDING = -1  # V1 rows of integers may differ in length; shorter ones are padded at the end


def lookup(signature: Signature, name: object) -> TensorSpec:
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    raise RequestError(f"there is no input {name!r}"[:200], f"send {names(signature)}")


def names(signature: Signature) -> str:
    return ", ".join(f"{s.name} ({s.datatype}{', optional' if s.optional else ''})" for s in signature.inputs)


def complete(tensors: Tensors, signature: Signature) -> Tensors:
    """Raises RequestError when a required input is missing."""
    for spec in signature.inputs:
        if not spec.optional and spec.name not in tensors:
            raise RequestError(f"{spec.name} is missing", f"send {names(signature)}")
    return tensors


def shape_of(shape: object, name: str) -> tuple[int, ...]:
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MAX_RANK
        or not all(type(n) is int and 0 <= n < 2**31 for n in shape)
    ):
        raise RequestError(f"{name} has no usable shape", "send shape as a list of lengths, such as [1]")
    return tuple(shape)


def from_values(spec: TensorSpec, values: object, shape: tuple[int, ...], levels: int = MAX_RANK) -> Array:
    """values: flat or nested lists, at most `levels` deep, in row-major order, as JSON or gRPC contents give them."""
    flat = _flatten(values, spec.name, levels)
    if math.prod(shape) != len(flat):
        raise RequestError(
            f"{spec.name} has shape {list(shape)} but {len(flat)} values", "send as many values as the shape says"
        )
    found = set(map(type, flat))
    if not found <= KINDS[spec.datatype]:
        wrong = ", ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in found))
        raise RequestError(
            f"{spec.name} holds {wrong}", f"send {WORDS.get(spec.datatype, 'integers')} ({spec.datatype})"
        )
    if spec.datatype == "BYTES":
        return _objects([v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat], shape)
    try:
        with np.errstate(over="ignore"):
            tensor = np.array(flat, dtype=DTYPES[spec.datatype]).reshape(shape)
    except OverflowError as error:
        raise RequestError(f"{spec.name} holds a number beyond {spec.datatype}", "send a number that fits") from error
    return _finite(tensor, spec.name)


def from_raw(spec: TensorSpec, raw: bytes | memoryview, shape: tuple[int, ...]) -> Array:
    """raw: little-endian row-major bytes; BYTES elements are each prefixed with their length in four bytes."""
    size = math.prod(shape)
    if spec.datatype == "BYTES":
        return _objects(_unpack(spec.name, bytes(raw), size), shape)
    dtype = DTYPES[spec.datatype]
    if size * dtype.itemsize != len(raw):
        raise RequestError(
            f"{spec.name} has {len(raw)} bytes where shape {list(shape)} of {spec.datatype} takes "
            f"{size * dtype.itemsize}",
            "send exactly the bytes that the shape says",
        )
    if spec.datatype == "BOOL" and np.frombuffer(raw, dtype=np.uint8).max(initial=0) > 1:
        raise RequestError(f"{spec.name} holds bytes other than 0 and 1", "send 0 or 1 (BOOL)")
    return _finite(np.frombuffer(raw, dtype=dtype).reshape(shape), spec.name)


def from_instances(signature: Signature, instances: object) -> Tensors:
    """V1: a list of {"input": value}; inputs of a fixed first length (such as k) hold for the whole request."""
    if not isinstance(instances, list) or not instances:
        raise RequestError(
            "instances must be a list that is not empty", f'send {{"instances": [{{...}}]}} of {names(signature)}'
        )
    if len(instances) > 1024:
        raise RequestError(f"there are {len(instances)} instances", "send fewer in one request")
    for instance in instances:
        if not isinstance(instance, dict):
            raise RequestError("an instance is not an object", f"send objects of {names(signature)}")
        for name in instance:
            lookup(signature, name)
    tensors: Tensors = {}
    for spec in signature.inputs:
        column = [instance[spec.name] for instance in instances if spec.name in instance]
        if not column:
            continue
        if spec.shape[:1] != (-1,):
            if len(column) < len(instances):
                raise RequestError(f"{spec.name} differs between instances", f"send one {spec.name} per request")
            tensors[spec.name] = _agreed(spec, column)
        elif len(spec.shape) == 1:
            if len(column) < len(instances):
                raise RequestError(f"{spec.name} is missing in an instance", f"send {spec.name} in every instance")
            tensors[spec.name] = from_values(spec, column, (len(column),), levels=1)
        else:
            tensors[spec.name] = _stacked(spec, [instance.get(spec.name, []) for instance in instances])
    return complete(tensors, signature)


def _agreed(spec: TensorSpec, column: list[Any]) -> Array:
    if any(value != column[0] for value in column):
        raise RequestError(f"{spec.name} differs between instances", f"send one {spec.name} per request")
    value = column[0] if isinstance(column[0], list) else [column[0]]
    return from_values(spec, value, (len(value),), levels=1)


def _stacked(spec: TensorSpec, rows: list[Any]) -> Array:
    for row in rows:
        if not isinstance(row, list):
            raise RequestError(f"{spec.name} of an instance is not a list", f"send a list ({spec.datatype})")
    longest = max(map(len, rows))
    if any(len(row) < longest for row in rows):
        if not spec.datatype.startswith("INT"):
            raise RequestError(f"{spec.name} differs in length between instances", "send rows of one length")
        rows = [row + [RAGGED_PADDING] * (longest - len(row)) for row in rows]
    return from_values(spec, rows, (len(rows), longest), levels=2)


def _flatten(values: object, name: str, levels: int) -> Sequence[Any]:
    if not isinstance(values, list | tuple):
        raise RequestError(f"{name} has no list of values", "send data as a list")
    while any(isinstance(value, list) for value in values):
        levels -= 1
        if levels < 1 or not all(isinstance(value, list) for value in values):
            raise RequestError(f"{name} is nested unevenly or too deeply", "send one flat list")
        values = [inner for value in values for inner in value]
    return values


def _finite(tensor: Array, name: str) -> Array:
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise RequestError(f"{name} holds NaN, infinity or a number that does not fit", "send finite numbers")
    return tensor


def _objects(values: Sequence[str], shape: tuple[int, ...]) -> Array:
    tensor = np.empty(len(values), dtype=object)
    tensor[:] = values
    return tensor.reshape(shape)


def _unpack(name: str, raw: bytes, size: int) -> list[str]:
    values: list[str] = []
    start = 0
    while start < len(raw) and len(values) <= size:
        stop = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if start + 4 > len(raw) or stop > len(raw):
            break
        values.append(raw[start + 4 : stop].decode("utf-8", "replace"))
        start = stop
    if len(values) != size or start != len(raw):
        raise RequestError(f"{name} is not {size} length-prefixed strings", "prefix each with its length in 4 bytes")
    return values


def to_values(tensor: Array) -> list[Any]:
    """Row-major flat values, as JSON wants them."""
    values: list[Any] = tensor.ravel().tolist()
    return values


def to_raw(tensor: Array) -> bytes:
    if tensor.dtype != object:
        return tensor.tobytes()
    encoded = [value if isinstance(value, bytes) else str(value).encode() for value in tensor.ravel()]
    return b"".join(part for value in encoded for part in (len(value).to_bytes(4, "little"), value))


def to_rows(outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """V1: one object per row of the batch."""
    columns = [tensor.tolist() for tensor in outputs.values()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]
