"""Does a training row see its own label? Knows event times and feature rows, no store and no model.

Feast's join includes equal timestamps, and statistics are stamped with the event that changed them: whoever asks for
features at the time of the labelled event gets features that contain it. `strictly_before` (slipway.features.asof) asks
a moment earlier; this check tells whether somebody forgot.
"""

import polars as pl

from slipway.errors import DataQualityError


def share(rows: pl.DataFrame, label: str = "event_timestamp", seen: str = "last_event") -> float:
    """The share of rows whose features contain an event at or after the row's own label; 0.0 without rows.

    label: the time of the labelled event, a timestamp with a time zone. seen: the newest event that the features know
    of, in milliseconds since 1970 UTC (user_statistics.last_event), or a list of such times (user_history.times); null:
    no features, no leak.
    """
    if not rows.height:
        return 0.0
    return float(rows.select(_leaked(rows, label, seen).mean()).item())


def check(rows: pl.DataFrame, label: str = "event_timestamp", seen: str = "last_event") -> None:
    """Raises DataQualityError when any row leaks."""
    leaking = round(share(rows, label, seen) * rows.height)
    if leaking:
        raise DataQualityError(
            "the check for leaks",
            {f"{seen} reaches {label}": leaking},
            str(rows.filter(_leaked(rows, label, seen)).head(5)),
            "ask for features strictly before the label: slipway.features.asof.strictly_before(entities)",
        )


def _leaked(rows: pl.DataFrame, label: str, seen: str) -> pl.Expr:
    newest = pl.col(seen).list.max() if isinstance(rows.schema[seen], pl.List) else pl.col(seen)
    return (newest.cast(pl.Int64) >= pl.col(label).dt.epoch("ms")).fill_null(value=False)
