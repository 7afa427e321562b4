"""Packages that revisions serve, as local folders by content. Knows URIs, and neither revisions nor servers."""

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway.errors import ObjectNotFoundError
from slipway.package import tree_hashes, version_of
from slipway.storage import get_tree, listing


def fetch(uri: str, packages: Path, endpoint_url: str | None = None) -> Path:
    """The package at uri as a local folder, named by its content: fetched once, never changed.

    Raises StorageError (also when nothing is there) or IntegrityError.
    """
    try:
        folder = packages / sha256(listing(uri, endpoint_url).encode()).hexdigest()[:16]
    except ObjectNotFoundError:
        local = Path(unquote(urlsplit(uri).path))
        if urlsplit(uri).scheme != "file" or not local.is_dir():
            raise
        folder = packages / version_of(tree_hashes(local))  # a plain folder, which no put_tree wrote
        if not folder.exists():
            draft = packages / f".{folder.name}.{uuid.uuid4().hex[:8]}.part"
            shutil.copytree(local, draft)
            draft.rename(folder)
        return folder
    if not folder.exists():
        packages.mkdir(parents=True, exist_ok=True)
        get_tree(uri, folder, endpoint_url)
    return folder


async def sweep(packages: Path, used: Iterable[Path | None]) -> None:
    """Delete the folders that are not among those used."""
    for package in set(packages.iterdir()) - set(used) if packages.is_dir() else ():
        trash = package.with_name(f".{package.name}.trash")
        with contextlib.suppress(OSError):
            package.rename(trash)  # gone for a fetch that begins meanwhile
            await asyncio.to_thread(shutil.rmtree, trash, ignore_errors=True)
