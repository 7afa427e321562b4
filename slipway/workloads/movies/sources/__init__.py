"""Which format a folder is in, by the files that lie there. Knows the formats' names and nothing of their lines."""

from pathlib import Path

from slipway.errors import SourceError
from slipway.workloads.movies.sources import movielens_1m, movielens_100k, movielens_csv, sequences, wikipedia
from slipway.workloads.movies.sources.source import Source

FORMATS = (
    movielens_100k.FORMAT,
    movielens_1m.FORMAT,
    movielens_csv.FORMAT,
    sequences.FORMAT,
    wikipedia.FORMAT,
)


def detect(folder: Path) -> Source:
    """Raises SourceError, naming the files looked for and those found, unless exactly one format is there."""
    looked_for = "; ".join(f"{f.name}: {', '.join(f.needs) or ' or '.join(f.marks)}" for f in FORMATS)
    remedy = f"give a folder with the files of one of {looked_for}"
    if not folder.exists():
        raise SourceError(f"there is no folder {folder}", remedy)
    if not folder.is_dir():
        raise SourceError(f"{folder} is a file, not a folder", remedy)
    try:
        present = sorted(path.name for path in folder.iterdir())
        files = {name for name in present if (folder / name).is_file()}
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}", "check its permissions") from error
    found = f"it has {', '.join(present[:12])}{', …' if len(present) > 12 else ''}" if present else "it is empty"
    marked = [f for f in FORMATS if files & set(f.marks)]
    if not marked:
        raise SourceError(f"{folder} is no data set that is known here: {found}", remedy)
    if len(marked) > 1:
        several = "; ".join(f"{f.name}: {', '.join(sorted(files & set(f.marks)))}" for f in marked)
        raise SourceError(
            f"{folder} holds several data sets ({several})", "leave the files of one of them in the folder"
        )
    [only] = marked
    missing = [name for name in only.needs if name not in files]
    if missing:
        raise SourceError(
            f"{folder} looks like {only.name} and lacks {', '.join(missing)}: {found}",
            f"put {', '.join(only.needs)} there, as the data set's authors ship them",
        )
    return only.open(folder)
