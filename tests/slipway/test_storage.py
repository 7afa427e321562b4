"""One behaviour on both stores: a folder, and S3 over HTTP (moto's server)."""

from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from slipway import storage
from slipway.errors import IntegrityError, ObjectNotFoundError, StorageError


@pytest.fixture(scope="module")
def s3_endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, monkeypatch):
    """(uri, endpoint_url) of an empty store."""
    if request.param == "file":
        return (tmp_path / "store").as_uri(), None
    endpoint = request.getfixturevalue("s3_endpoint")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{tmp_path.name.replace('_', '-').lower()}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix", endpoint


def test_objects_round_trip_overwrite_list_and_delete(place, tmp_path):
    store = storage.store(*place)
    store.write("a/one.txt", b"1")
    store.write("a/one.txt", b"one")
    store.write("b two.bin", bytes(range(256)))
    assert store.read("a/one.txt") == b"one"
    assert list(store.keys()) == ["a/one.txt", "b two.bin"]
    assert list(store.keys("a/")) == ["a/one.txt"]
    (tmp_path / "local").write_bytes(b"file")
    store.upload(tmp_path / "local", "c")
    store.download("c", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == b"file"
    store.delete("c")
    store.delete("c")
    with pytest.raises(ObjectNotFoundError, match="no object at"):
        store.read("c")
    with pytest.raises(ObjectNotFoundError):
        store.download("c", tmp_path / "x")


def test_keys_cannot_leave_the_store(place):
    with pytest.raises(StorageError, match="leads out"):
        storage.store(*place).write("../escape", b"")


def tree(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "x").write_bytes(b"x")
    (folder / "sub" / "y").write_bytes(b"y" * 100_000)
    return folder


def test_a_tree_round_trips_and_replaces_what_was_there(place, tmp_path):
    uri, endpoint = place
    assert not storage.is_complete(uri, endpoint)
    storage.put_tree(tree(tmp_path / "in"), uri, endpoint)
    assert storage.is_complete(uri, endpoint)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").touch()
    storage.get_tree(uri, tmp_path / "out", endpoint)
    assert storage.tree_hashes(tmp_path / "out") == storage.tree_hashes(tmp_path / "in")


def test_a_tree_without_its_list_of_hashes_is_not_there(place, tmp_path):
    uri, endpoint = place
    storage.put_tree(tree(tmp_path / "in"), uri, endpoint)
    parent, name = uri.rsplit("/", 1)
    storage.store(parent, endpoint).delete(f"{name}.sha256")
    with pytest.raises(ObjectNotFoundError):
        storage.get_tree(uri, tmp_path / "out", endpoint)
    assert not (tmp_path / "out").exists()


def test_a_changed_object_is_noticed_and_nothing_is_left(place, tmp_path):
    uri, endpoint = place
    storage.put_tree(tree(tmp_path / "in"), uri, endpoint)
    storage.store(uri, endpoint).write("sub/y", b"z")
    with pytest.raises(IntegrityError, match="sub/y"):
        storage.get_tree(uri, tmp_path / "out", endpoint)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("store")) == ["in"]


def test_a_failed_write_leaves_no_draft(tmp_path):
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot be a folder"):
        storage.store((tmp_path / "store").as_uri()).write("a/b", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("uri", ["", "folder", "file://", "file://tmp/x", "file:x", "s3://", "http://x/y", "minio://b"])
def test_other_uris_are_refused_with_the_remedy(uri):
    with pytest.raises(StorageError, match="file:///folder or s3://bucket/prefix"):
        storage.store(uri)


def test_an_unreachable_endpoint_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="SLIPWAY_S3_ENDPOINT_URL"):
        storage.store("s3://bucket", "http://127.0.0.1:9").read("key")


@pytest.mark.parametrize("name", ["../outside", "/outside", "sub/../../outside"])
def test_a_tree_writes_nothing_outside_its_folder(name: str, tmp_path: Path) -> None:
    place, outside = tmp_path / "store" / "tree", tmp_path / "here" / "outside"
    place.mkdir(parents=True)
    storage.put_tree(place, place.as_uri())
    (listed,) = place.parent.glob("*tree*sha256*")
    listed.write_text(f"{'0' * 64}  {name}\n")
    (place.parent / "outside").write_text("x")
    with pytest.raises(IntegrityError, match="leads out of its folder"):
        storage.get_tree(place.as_uri(), tmp_path / "here" / "tree")
    assert not outside.exists()
    assert not list((tmp_path / "here").iterdir())


def test_what_one_process_holds_another_is_refused(tmp_path: Path) -> None:
    place, what = tmp_path / "x" / "lock", "study 'a'"
    with (  # a handle of its own, as another process has
        storage.held(place, what),
        pytest.raises(StorageError, match="study 'a' is at work in another process"),
        storage.held(place, what),
    ):
        pytest.fail("two at once")
    with storage.held(place, what):
        pass
