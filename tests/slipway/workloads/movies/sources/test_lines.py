from hypothesis import given
from hypothesis import strategies as st

from slipway.workloads.movies.sources import lines
from slipway.workloads.movies.sources.lines import Block, read_blocks


def read(tmp_path, data: bytes, size: int, **options) -> list[tuple[int, str]]:
    path = tmp_path / "file"
    path.write_bytes(data)
    return [
        (block.first + i, text) for block in read_blocks(path, size, **options) for i, text in enumerate(block.lines())
    ]


def test_lines_keep_their_numbers_whatever_the_block(tmp_path):
    data = b"one\n\nthree\r\nfour"
    for size in range(1, 30):
        assert read(tmp_path, data, size) == [(1, "one"), (2, ""), (3, "three"), (4, "four")]


@given(data=st.binary(max_size=200), size=st.integers(1, 64))
def test_no_byte_is_lost(tmp_path_factory, data, size):
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "file").write_bytes(data)
    blocks = list(read_blocks(folder / "file", size))
    whole = b"".join(block.data for block in blocks)
    expected = data.removeprefix(lines.BOM)
    assert whole == (expected if not expected or expected.endswith(b"\n") else expected + b"\n")
    assert [b.broken_off for b in blocks] == [False] * (len(blocks) - 1) + [not expected.endswith(b"\n")] * bool(blocks)


def test_the_header_counts_as_a_line(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfhead\nx\n", 100, header=True) == [(2, "x")]


def test_a_line_without_end_needs_no_memory(tmp_path):
    data = b"first\n" + b"x" * (5 * lines.LONGEST_LINE) + b"\nlast\n"
    path = tmp_path / "file"
    path.write_bytes(data)
    blocks = list(read_blocks(path, 1000))
    assert max(len(b.data) for b in blocks) < lines.LONGEST_LINE + 3000
    found = [(b.first + i, text[:5]) for b in blocks for i, text in enumerate(b.lines())]
    assert found == [(1, "first"), (2, "xxxxx"), (3, "last")]


def test_a_file_of_one_endless_line(tmp_path):
    [(number, text)] = read(tmp_path, b"\0" * (3 * lines.LONGEST_LINE), 1000)
    assert number == 1
    assert len(text) <= lines.LONGEST_LINE + 1000


def test_rows_are_counted_by_their_ends():
    assert Block(1, b"a\n\nb\n").rows == 3
