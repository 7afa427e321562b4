"""Objects by URI, the same on a folder (file://) and on S3 (s3://bucket/prefix). Knows bytes, not what they mean.

Writes are atomic: a reader sees the old object, the new one, or none. S3 gives that by itself; a folder by writing
beside and renaming. A tree is complete when the list of its hashes, `<uri>.sha256`, lies beside it: it is written last.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from slipway.errors import IntegrityError, ObjectNotFoundError, StorageError
from slipway.package import sha256, tree_hashes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectStore(Protocol):
    """Objects below one root URI; keys are relative POSIX paths."""

    def read(self, key: str) -> bytes: ...

    def write(self, key: str, data: bytes) -> None: ...

    def download(self, key: str, path: Path) -> None: ...

    def upload(self, path: Path, key: str) -> None: ...

    def keys(self, prefix: str = "") -> Iterator[str]: ...

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(key, bytes) of each object."""

    def folders(self, prefix: str = "") -> list[str]:
        """The names right below the folder `prefix` under which there are objects."""

    def delete(self, key: str) -> None: ...


class FolderStore:
    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StorageError(f"{key!r} leads out of {self.root}", "use keys without '..'")
        return path

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ObjectNotFoundError(self._path(key).as_uri()) from error

    def write(self, key: str, data: bytes) -> None:
        path, draft = self._draft(key)
        try:
            draft.write_bytes(data)
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StorageError(f"{path} could not be written: {error.strerror}", "check space and rights") from error

    def download(self, key: str, path: Path) -> None:
        source = self._path(key)
        if not source.is_file():
            raise ObjectNotFoundError(source.as_uri())
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)

    def upload(self, path: Path, key: str) -> None:
        target, draft = self._draft(key)
        try:
            shutil.copyfile(path, draft)
            draft.replace(target)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StorageError(f"{target} could not be written: {error.strerror}", "check space and rights") from error

    def keys(self, prefix: str = "") -> Iterator[str]:
        for key, _ in self.sizes(prefix):
            yield key

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        start = self._path(prefix.rpartition("/")[0])
        for path in sorted(start.rglob("*")):
            key = path.relative_to(self.root.resolve()).as_posix()
            if not key.startswith(prefix) or path.name.endswith(".part"):
                continue
            with contextlib.suppress(FileNotFoundError):  # somebody else removed it
                about = path.stat()
                if stat.S_ISREG(about.st_mode):
                    yield key, about.st_size

    def folders(self, prefix: str = "") -> list[str]:
        place = self._path(prefix)
        return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _draft(self, key: str) -> tuple[Path, Path]:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path.parent} cannot be a folder: {error.strerror}", "check the store's URI"
            ) from error
        return path, path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


class S3Store:
    """Any S3: AWS's, SeaweedFS, a test server. Credentials come from boto3's usual chain."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        import boto3
        from botocore.config import Config

        self.bucket, self.prefix = bucket, prefix.strip("/")
        # Checksums "when supported" (boto3's default) break most servers that are not AWS's own.
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"max_attempts": 5, "mode": "standard"},
            connect_timeout=5,
        )
        self.client: S3Client = boto3.client("s3", endpoint_url=endpoint_url, config=config)

    def _key(self, key: str) -> str:
        if ".." in key.split("/"):
            raise StorageError(f"{key!r} leads out of s3://{self.bucket}/{self.prefix}", "use keys without '..'")
        return f"{self.prefix}/{key}" if self.prefix else key

    def _failed(self, key: str, error: Exception) -> StorageError:
        from botocore.exceptions import ClientError

        uri = f"s3://{self.bucket}/{self._key(key)}"
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        if code in {"NoSuchKey", "404", "NotFound"}:
            return ObjectNotFoundError(uri)
        return StorageError(
            f"S3 failed for {uri}: {error}",
            "check the bucket, AWS credentials (AWS_ACCESS_KEY_ID …) and SLIPWAY_S3_ENDPOINT_URL",
        )

    def _call(self, key: str, method: str, *args: Any, **kwargs: Any) -> Any:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, method)(*args, **kwargs)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise self._failed(key, error) from error

    def read(self, key: str) -> bytes:
        body: bytes = self._call(key, "get_object", Bucket=self.bucket, Key=self._key(key))["Body"].read()
        return body

    def write(self, key: str, data: bytes) -> None:
        self._call(key, "put_object", Bucket=self.bucket, Key=self._key(key), Body=data)

    def download(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._call(key, "download_file", self.bucket, self._key(key), str(path))

    def upload(self, path: Path, key: str) -> None:
        self._call(key, "upload_file", str(path), self.bucket, self._key(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        for key, _ in self.sizes(prefix):
            yield key

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        start = f"{self.prefix}/" if self.prefix else ""
        for page in self._pages(start + prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(start), entry["Size"]

    def folders(self, prefix: str = "") -> list[str]:
        start = self._key(f"{prefix.rstrip('/')}/" if prefix else "")
        pages = self._pages(start, Delimiter="/")
        return [e["Prefix"].removeprefix(start).rstrip("/") for page in pages for e in page.get("CommonPrefixes", ())]

    def _pages(self, prefix: str, **how: str) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            page = self._call(prefix, "list_objects_v2", Bucket=self.bucket, Prefix=prefix, **how, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._call(key, "delete_object", Bucket=self.bucket, Key=self._key(key))


def store(uri: str, endpoint_url: str | None = None) -> ObjectStore:
    """Raises StorageError for a scheme that is neither file:// nor s3://."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path, endpoint_url)
    raise StorageError(f"{uri!r} is no URI of an object store", "use file:///folder or s3://bucket/prefix")


def put_tree(folder: Path, uri: str, endpoint_url: str | None = None) -> None:
    """Upload every file of folder below uri; the list of their hashes is written last."""
    target = store(uri, endpoint_url)
    hashes = tree_hashes(folder)
    for name in hashes:
        target.upload(folder / name, name)
    beside, name = _beside(uri, endpoint_url)
    beside.write(name, "".join(f"{digest}  {path}\n" for path, digest in hashes.items()).encode())


def listing(uri: str, endpoint_url: str | None = None) -> str:
    """ "<sha256>  <path>" per file, as sha256sum prints. Raises ObjectNotFoundError when no whole tree is at uri."""
    beside, name = _beside(uri, endpoint_url)
    return beside.read(name).decode()


def is_complete(uri: str, endpoint_url: str | None = None) -> bool:
    try:
        listing(uri, endpoint_url)
    except ObjectNotFoundError:
        return False
    return True


def get_tree(uri: str, folder: Path, endpoint_url: str | None = None) -> None:
    """Download a tree that put_tree wrote; folder appears whole or not at all.

    Raises ObjectNotFoundError when the tree is absent or incomplete, IntegrityError when a file's hash differs.
    """
    source = store(uri, endpoint_url)
    lines = listing(uri, endpoint_url).splitlines()
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    draft.mkdir(parents=True)
    try:
        for line in lines:
            digest, name = line.split("  ", 1)
            if not (draft / name).resolve().is_relative_to(draft.resolve()):
                raise IntegrityError(f"{uri} lists {name!r}, which leads out of its folder")
            source.download(name, draft / name)
            if sha256(draft / name) != digest:
                raise IntegrityError(f"{uri}/{name} is not what was stored there")
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _beside(uri: str, endpoint_url: str | None) -> tuple[ObjectStore, str]:
    parent, _, name = uri.rstrip("/").rpartition("/")
    return store(parent, endpoint_url), f"{name}.sha256"


def write_atomically(path: Path, data: str | bytes) -> None:
    """A local file appears whole or not at all, also when two processes write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    draft.write_bytes(data.encode() if isinstance(data, str) else data)
    draft.replace(path)


@contextlib.contextmanager
def held(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """One process of this machine at a time; a killed one holds nothing. what: as a person calls it.

    Raises StorageError when another one holds it, unless it is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"{what} is at work in another process", "wait for it, or end it first") from error
        yield
