import json
from pathlib import Path
from typing import Any

import pytest

from serving.embedded.state import ConflictError, MissingError, State


def thing(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def test_generation_counts_specs_and_resource_version_counts_writes(tmp_path: Path) -> None:
    state = State(tmp_path)
    first = state.put("things", thing(x=1))
    with_status = state.put("things", first | {"status": {"ok": True}}, status=True)
    second = state.put("things", thing(x=2))
    versions = [int(o["metadata"]["resourceVersion"]) for o in (first, with_status, second)]
    assert versions == sorted(set(versions))
    assert [o["metadata"]["generation"] for o in (first, with_status, second)] == [1, 1, 2]
    assert second["status"] == {"ok": True}


def test_a_write_that_changes_nothing_is_no_write(tmp_path: Path) -> None:
    state = State(tmp_path)
    first = state.put("things", thing(x=1))
    events = state.watch()
    assert state.put("things", thing(x=1)) == first
    assert events.empty()


def test_a_stale_resource_version_is_a_conflict(tmp_path: Path) -> None:
    state = State(tmp_path)
    first = state.put("things", thing(x=1))
    state.put("things", thing(x=2))
    with pytest.raises(ConflictError, match="has been modified"):
        state.put("things", first | {"spec": {"x": 3}})
    state.delete("things", "default", "a")
    with pytest.raises(ConflictError):
        state.put("things", first)
    with pytest.raises(MissingError):
        state.get("things", "default", "a")


def test_objects_survive_a_restart(tmp_path: Path) -> None:
    written = State(tmp_path).put("things", thing(x=1))
    again = State(tmp_path)
    assert again.list("things") == [written]
    assert int(again.put("things", thing(x=2))["metadata"]["resourceVersion"]) > int(
        written["metadata"]["resourceVersion"]
    )


@pytest.mark.parametrize(
    "content",
    [b"", b'{"metadata": {"name": "b"', b"\xff\xfe", b"[]", b"null", b'{"metadata": {"name": "c"}}'],
    ids=["empty", "truncated", "binary", "list", "null", "another name"],
)
def test_a_corrupt_file_is_put_aside_and_the_rest_goes_on(tmp_path: Path, content: bytes, caplog: Any) -> None:
    state = State(tmp_path)
    state.put("things", thing("a"))
    state.put("things", thing("b"))
    damaged = tmp_path / "things" / "default" / "b.json"
    damaged.write_bytes(content)
    again = State(tmp_path)
    assert [o["metadata"]["name"] for o in again.list("things")] == ["a"]
    assert [path.read_bytes() for path in again.quarantined] == [content]
    assert not damaged.exists()
    assert "cannot be read" in caplog.text
    assert "apply the object again" in caplog.text


def test_an_object_that_the_schema_no_longer_takes_is_put_aside(tmp_path: Path) -> None:
    State(tmp_path).put("things", thing("a", old=True))
    again = State(tmp_path, lambda _, found: "old field" if "old" in found["spec"] else "")
    assert again.list("things") == []
    assert json.loads(again.quarantined[0].read_bytes())["spec"] == {"old": True}
