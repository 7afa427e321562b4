"""Titles, genres and attributes of each format, read from files written by hand."""

import pytest

from slipway.workloads.movies.sources import detect


def tables(folder):
    source = detect(folder)
    return source.tables(source.folder)


def bad(read):
    return [(t.file, *row) for t in read.read for row in t.bad.select("line", "reason").iter_rows()]


def test_movielens_100k(source_files):
    read = tables(source_files("ml-100k"))
    assert read.items.rows() == [
        (242, "Kolya (1996)", ["Comedy"], 1996),
        (267, "unknown", [], None),
        (302, "Misérables, Les (1995)", ["Drama", "Musical"], 1995),
    ]
    assert read.users.rows() == [(186, "F", 39, "executive", "00000"), (196, "M", 49, "writer", "55105")]
    assert bad(read) == []


def test_movielens_1m_with_colons_in_a_title(source_files):
    read = tables(source_files("ml-1m"))
    assert read.items.rows() == [
        (661, "James and the Giant Peach (1996)", ["Animation", "Children's", "Musical"], 1996),
        (1193, "Misérables :: the Return, Les (1975)", ["Drama"], 1975),
    ]
    assert read.users.rows() == [(1, "F", 1, "10", "48067"), (2, "M", 56, "16", "70072-1234")]


def test_csv_titles_with_commas_quotes_and_accents(source_files):
    read = tables(source_files("ml-csv"))
    assert read.items.rows() == [
        (11, 'American "President", The (1995)', ["Comedy", "Romance"], 1995),
        (12, "Amélie (Le fabuleux destin d'Amélie Poulain) (2001)", [], 2001),
    ]
    assert read.users is None


def test_sequences_find_their_titles_and_users_through_the_maps(source_files):
    read = tables(source_files("ml-1m-sas"))
    assert read.items["title"].to_list() == ["Misérables :: the Return, Les (1975)", "James and the Giant Peach (1996)"]
    assert read.users.select("user", "gender").rows() == [(1, "M"), (2, "F")]


def test_sequences_alone(source_files):
    maps = ("sas_to_original_items.txt", "sas_to_original_users.txt", "movies.dat", "users.dat")
    read = tables(source_files("ml-1m-sas", **dict.fromkeys(maps)))
    assert read.items is None
    assert read.users is None


def test_a_copy_converted_to_utf8_is_read_as_such(source_files):
    text = "661::Amélie (2001)::Comedy\n1193::Kolya (1996)::Drama\n"
    read = tables(source_files("ml-1m", **{"movies.dat": text.encode()}))
    assert read.items["title"].to_list() == ["Amélie (2001)", "Kolya (1996)"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7::Amélie (2001)::Comedy".encode(), "encoding"),  # UTF-8 in a file that is not
        (b"7::\x93Quoted\x94 (2001)::Comedy", "encoding"),  # Windows-1252
        (b"7::Nul\x00 (2001)::Comedy", "encoding"),
        (b"7::No genres (2001)", "fields"),
        (b"x::No number (2001)::Comedy", "fields"),
        (b"661::Again (2001)::Comedy", "duplicate"),
        (b"0661::Again (2001)::Comedy", "duplicate"),
    ],
)
def test_a_bad_line_of_a_latin1_table(source_files, line, reason):
    text = "661::Café (1996)::Comedy\n".encode("iso-8859-1") + b"\n" + line + b"\n8::Kolya (1996)::Drama\n"
    read = tables(source_files("ml-1m", **{"movies.dat": text}))
    assert bad(read) == [("movies.dat", 3, reason)]
    assert read.items["item"].to_list() == [8, 661]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7,Caf\xe9 (2001),Comedy", "encoding"),
        (b'7,"Open quote (2001),Comedy', "fields"),
        (b"7,A comma, unquoted (2001),Comedy", "fields"),
    ],
)
def test_a_bad_line_of_a_csv_table(source_files, line, reason):
    read = tables(
        source_files("ml-csv", **{"movies.csv": b"movieId,title,genres\n11,Kolya (1996),Drama\n" + line + b"\n"})
    )
    assert bad(read) == [("movies.csv", 3, reason)]


def test_a_table_that_breaks_off(source_files):
    read = tables(source_files("ml-1m", **{"users.dat": b"1::F::1::10::48067\n2::M::5"}))
    assert bad(read) == [("users.dat", 2, "truncated")]


def test_an_empty_table(source_files):
    assert tables(source_files("ml-1m", **{"movies.dat": b""})).items.height == 0


def test_tables_without_genres(source_files):
    read = tables(source_files("ml-100k", **{"u.genre": b""}))
    assert {reason for _, _, reason in bad(read)} == {"fields"}  # no item line has so few flags
