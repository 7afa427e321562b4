"""A package is fetched once, and is the one that was asked for."""

import json
import shutil

import pytest

from cli.packages import fetch
from slipway import storage
from slipway.errors import ObjectNotFoundError
from slipway.settings import Settings


def test_a_copy_is_of_what_lies_there_now(movies_package, tmp_path):
    source, env = tmp_path / "source", Settings(home=tmp_path / "home")
    shutil.copytree(movies_package.package, source)
    here, there = f"{tmp_path.as_uri()}/a/package", f"{tmp_path.as_uri()}/b/package"
    storage.put_tree(source, here)
    first = fetch(here, env)
    assert fetch(here, env).folder == first.folder, "fetched once"
    manifest = json.loads((source / "package.json").read_text())
    (source / "package.json").write_text(json.dumps(manifest | {"pipeline_run": "another"}))
    storage.put_tree(source, there)
    assert fetch(there, env).manifest.pipeline_run == "another", "two folders may have one name"
    shutil.rmtree(tmp_path / "a")
    storage.put_tree(source, here)
    assert fetch(here, env).manifest.pipeline_run == "another", "what lies there was written anew"
    with pytest.raises(ObjectNotFoundError):
        fetch(f"{tmp_path.as_uri()}/c/package", env)
