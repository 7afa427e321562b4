"""A package at a URI → a copy of it on this machine, fetched once. Knows neither MLflow nor what serves."""

from hashlib import sha256

from slipway import storage
from slipway.package import MANIFEST, Package
from slipway.settings import Settings


def fetch(uri: str, env: Settings) -> Package:
    """Copies are told apart by their manifests, which hold each file's hash: a folder may be written anew, and two may
    have one name. Raises ObjectNotFoundError, StorageError, PackageError.
    """
    manifest = storage.store(uri, env.s3_endpoint_url).read(MANIFEST)
    copy = env.home / "cache" / "packages" / sha256(manifest).hexdigest()[:16]
    if not copy.exists():
        storage.get_tree(uri, copy, env.s3_endpoint_url)
    return Package.open(copy)
