"""Folders in each format, written by hand: a few users, and titles that are hard to read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slipway.workloads.movies import messages

WHEN = 978_300_760  # 2000-12-31

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def flags(*genres: str) -> str:
    return "|".join("1" if g in genres else "0" for g in GENRES)


ML_100K = {
    "u.data": f"196\t242\t3\t{WHEN}\n186\t302\t5\t{WHEN + 5}\n196\t302\t1\t{WHEN}\n".encode(),
    "u.genre": "".join(f"{name}|{i}\n" for i, name in enumerate(GENRES)).encode() + b"\n",
    "u.item": (
        f"242|Kolya (1996)|24-Jan-1997||http://x/a?b(1)|{flags('Comedy')}\n"
        f"302|Misérables, Les (1995)|01-Jan-1995|||{flags('Drama', 'Musical')}\n"
        f"267|unknown||||{flags('unknown')}\n"
    ).encode("iso-8859-1"),
    "u.user": b"196|49|M|writer|55105\r\n186|39|F|executive|00000\n",
}
ML_1M = {
    "ratings.dat": f"1::1193::5::{WHEN}\n1::661::3::{WHEN}\n2::1193::4::{WHEN - 9}\n".encode(),
    "movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Misérables :: the Return, Les (1975)::Drama\n"
    ).encode("iso-8859-1"),
    "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
}
ML_CSV = {
    "ratings.csv": f"userId,movieId,rating,timestamp\r\n1,11,3.5,{WHEN}\r\n2,12,0.5,{WHEN}\r\n".encode(),
    "movies.csv": (
        "movieId,title,genres\r\n"
        '11,"American ""President"", The (1995)",Comedy|Romance\r\n'
        "12,Amélie (Le fabuleux destin d'Amélie Poulain) (2001),(no genres listed)\r\n"
    ).encode(),
    "README.txt": b"nothing to read",
}
SAS = {
    "ml-1m-sas.txt": b"1 2\n1 1\n2 1\n",
    "sas_to_original_items.txt": b"1 1193\n2 661\n",
    "sas_to_original_users.txt": b"1 2\n2 1\n",
    "movies.dat": ML_1M["movies.dat"],
    "users.dat": ML_1M["users.dat"],
}
WIKIPEDIA = {"ml_wikipedia_ts.txt": b"1 8228 0\n2 8229 36\n2 8229 77\n", "wikipedia.txt": b"1 1\n2 2\n2 2\n"}

FOLDERS = {"ml-100k": ML_100K, "ml-1m": ML_1M, "ml-csv": ML_CSV, "ml-1m-sas": SAS, "wikipedia": WIKIPEDIA}


@pytest.fixture(scope="session")
def formats() -> dict[str, dict[str, bytes]]:
    return FOLDERS


@pytest.fixture
def source_files(tmp_path: Path) -> Callable[..., Path]:
    """source_files("ml-1m", **{"ratings.dat": b"…"}): the format's files, some replaced, or left out where None."""

    def folder(form: str, **replaced: bytes | None) -> Path:
        path = tmp_path / form
        path.mkdir()
        for name, content in {**FOLDERS[form], **replaced}.items():
            if content is not None:
                (path / name).write_bytes(content)
        return path

    return folder


class ProductionLog:
    """Rows of logs/<data set>/exposures and feedback; seconds count from half a minute before a midnight."""

    start = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)

    def exposure(self, request: str, user: int, second: float, items: list[int] | None, **other: Any) -> dict[str, Any]:
        at = self.start + timedelta(seconds=second)
        count = len(items or ())
        row = dict.fromkeys(messages.EXPOSURES) | {"model": "movies", "package": "p1", "revision": "r1"}
        lists = {"scores": [1 - i / 8 for i in range(count)], "propensities": [0.5] * count}
        return {**row, "request_id": request, "user": user, "timestamp": at, "date": at.date(), "items": items} | (
            lists | other
        )

    def feedback(
        self,
        event: str | None,
        request: str | None,
        user: int,
        item: int | None,
        second: float,
        action: str = "click",
        rating: float | None = None,
    ) -> dict[str, Any]:
        at = self.start + timedelta(seconds=second)
        values = (event, request, user, item, at, action, rating, at.date())
        return dict(zip(messages.FEEDBACK, values, strict=True))

    def frames(self, exposures: list[dict[str, Any]], feedback: list[dict[str, Any]]) -> tuple[pl.DataFrame, ...]:
        return (
            pl.DataFrame(exposures, schema=messages.EXPOSURES),
            pl.DataFrame(feedback, schema=messages.FEEDBACK),
        )


@pytest.fixture(scope="session")
def production_log() -> ProductionLog:
    return ProductionLog()
