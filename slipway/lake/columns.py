"""Which types a table keeps, and whether rows fit a table. Knows Polars' types and Delta's, no files.

Delta knows no categories, no unsigned numbers, no arrays of fixed length and only microseconds, so such columns are
kept as strings, 64-bit integers, lists and microseconds; `Table.scan(schema=…)` gives them back.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from slipway.errors import ColumnsError

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

_UNSIGNED = (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


def kept(dtype: pl.DataType) -> pl.DataType:
    """The type that a table has for this one."""
    if isinstance(dtype, pl.Enum | pl.Categorical):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", dtype.time_zone)
    if isinstance(dtype, _UNSIGNED):
        return pl.Int64()
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(kept(_instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: kept(_instance(field.dtype)) for field in dtype.fields})
    return dtype


def kept_schema(schema: pl.Schema) -> pl.Schema:
    return pl.Schema({name: kept(dtype) for name, dtype in schema.items()})


def fit(rows: pl.DataFrame, table: pl.Schema | None, uri: str) -> pl.DataFrame:
    """The rows as the table keeps them, in its order of columns; table: None for one that is not there yet.

    A column of nothing but nulls takes the table's type. Raises ColumnsError naming each column that is missing,
    unknown or of another type.
    """
    if rows.schema == table and rows.columns == table.names():
        return rows
    mine = kept_schema(rows.schema)
    if table is None:
        untyped = [name for name, dtype in mine.items() if _untyped(dtype)]
        if untyped:
            raise ColumnsError(uri, [f"{name} holds nothing but nulls and has no type" for name in untyped])
        return rows.cast(mine)
    wrong = [f"{name} is missing" for name in table if name not in mine]
    wrong += [f"{name} is new" for name in mine if name not in table]
    wrong += [
        f"{name} is {mine[name]} and was {dtype}"
        for name, dtype in table.items()
        if name in mine and mine[name] != dtype and not _untyped(mine[name])
    ]
    if wrong:
        raise ColumnsError(uri, wrong)
    return rows.select(table.names()).cast(table)


def restore(rows: pl.LazyFrame, has: pl.Schema, wanted: Mapping[str, Any], uri: str) -> pl.LazyFrame:
    """The wanted columns in the wanted types. Raises ColumnsError naming those that there are not."""
    missing = [f"{name} is missing (it has {', '.join(has)})" for name in wanted if name not in has]
    if missing:
        raise ColumnsError(uri, missing)
    return rows.select(
        pl.col(name) if has[name] == dtype else pl.col(name).cast(dtype) for name, dtype in wanted.items()
    )


def _untyped(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Null) or (isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Null))


def _instance(dtype: "PolarsDataType") -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()  # a class stands for its plain instance
