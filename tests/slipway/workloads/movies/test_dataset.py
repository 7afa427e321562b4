"""A folder that is no data set is named, with what to do."""

import pytest

from slipway.errors import SourceError
from slipway.workloads.movies import dataset


@pytest.mark.parametrize("content", [None, "", "{", '{"source": "ml-1m"}', '{"surprise": 1}'])
def test_what_is_no_data_set_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(SourceError, match="is no data set") as refused:
        dataset.read(tmp_path)
    assert "ingest" in refused.value.remedy
