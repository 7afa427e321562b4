"""What the champion is measured by is in its package, or it is an error that says what to do."""

from datetime import UTC, datetime

import pytest

from components.evaluate.step import package_metrics
from slipway import storage
from slipway.errors import IntegrityError, StorageError
from slipway.package import MANIFEST, Package, Signature, Snapshot


def test_the_champions_figures_come_from_its_package(tmp_path):
    folder, uri = tmp_path / "package", (tmp_path / "store" / "v1").as_uri()
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    Package.seal(
        folder,
        workload="movies",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        git_commit="0" * 40,
        pipeline_run="tests",
        data=Snapshot(uri="file:///data", sha256="0" * 64, events=1),
        signature=Signature(inputs=(), outputs=()),
        metrics={"measured/served_ndcg": 0.25},
    )
    with pytest.raises(StorageError, match=r"no package\.json\n.*alias `champion`"):
        package_metrics(uri, None)
    storage.put_tree(folder, uri)
    assert package_metrics(uri, None) == {"measured/served_ndcg": 0.25}
    (tmp_path / "store" / "v1" / MANIFEST).write_text("{")
    with pytest.raises(IntegrityError, match="is not valid"):
        package_metrics(uri, None)
