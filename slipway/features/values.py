"""Rows of one feature view as Feast's protocol buffers, and back. Knows types, no store.

Feast's own conversion infers each value's type again; a view says it once.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from slipway.errors import FeatureStoreError

Encoded = tuple[Any, dict[str, Any], datetime, datetime]  # entity key, values, event time, creation time


class ViewCodec:
    """Of a feast.FeatureView with one entity column of type Int64."""

    def __init__(self, view: Any) -> None:
        from feast.protos.feast.types import EntityKey_pb2, Value_pb2

        self.view = view
        self.entity: str = view.entity_columns[0].name
        self.ttl: timedelta = view.ttl or timedelta(days=36_500)
        self._entity_key, self._value = EntityKey_pb2.EntityKey, Value_pb2.Value
        self._fields = {one.name: _encoder(one.dtype, Value_pb2) for one in view.features}
        self._known = {*self._fields, self.entity, "event_timestamp", "created_timestamp"}

    def key(self, one: int) -> Any:
        return self._entity_key(join_keys=[self.entity], entity_values=[self._value(int64_val=one)])

    def decode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Every field of the view; lists are lists, what is absent is None."""
        decoded: dict[str, Any] = dict.fromkeys(self._fields)
        for name, value in row.items():
            kind = value.WhichOneof("val")
            if kind is not None and kind != "null_val":
                plain = getattr(value, kind)
                decoded[name] = list(plain.val) if kind.endswith("_list_val") else plain
        return decoded

    def encode(self, row: Mapping[str, Any], created: datetime) -> Encoded:
        """Raises FeatureStoreError for a row that does not fit the view."""
        try:
            if unknown := row.keys() - self._known:
                raise ValueError(f"no field {', '.join(sorted(unknown))}")
            event: datetime = row["event_timestamp"]
            if event.tzinfo is None:
                raise ValueError("event_timestamp has no time zone")
            encoded = {name: encode(row.get(name)) for name, encode in self._fields.items()}
            return self.key(row[self.entity]), encoded, event, created
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FeatureStoreError(
                f"a row does not fit the feature view {self.view.name}: {type(error).__name__}: {error}",
                f"give {self.entity}, event_timestamp (with a time zone) and {', '.join(self._fields)}",
            ) from error


def _encoder(dtype: Any, module: Any) -> Callable[[Any], Any]:
    """A Python value → a Value of that field's type; None → a Value without one."""
    kind = dtype.to_value_type().name.lower()  # "int64", "float", "string", "int64_list"
    value = module.Value
    name = f"{kind}_val"
    if not kind.endswith("_list"):
        return lambda plain: value() if plain is None else value(**{name: plain})
    kinds = getattr(module, "".join(part.capitalize() for part in kind.split("_")))
    return lambda plain: value() if plain is None else value(**{name: kinds(val=plain)})
