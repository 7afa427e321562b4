"""Texts as data: what is wrong in them is named, and nothing is guessed."""

import pytest

from slipway.cards.about import Material, of_format, read_about, read_materials
from slipway.errors import ConfigError

ENTRY = "\n  ".join(
    ["- name: A", "kind: data set", "formats: [a]"]
    + [
        f"{key}: x"
        for key in ("source", "who", "when", "how", "licence", "redistribution", "privacy", "fairness", "use")
    ]
)


@pytest.fixture
def read(tmp_path):
    def written(text, how=read_materials):
        path = tmp_path / "texts.yaml"
        path.write_text(text)
        return how(path)

    return written


def test_an_entry_is_read_whole(read):
    [material] = read(ENTRY)
    assert isinstance(material, Material)
    assert of_format([material], "a") is material
    assert of_format([material], "b") is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ENTRY + "\n  licens: y", "licens"),
        (ENTRY.replace("  licence: x\n", ""), "licence"),
        (ENTRY.replace("kind: data set", "kind: rumour"), "kind"),
        (ENTRY + "\n" + ENTRY, "A twice"),
        ("{", "cannot be read"),
        ("", "cannot be used"),
    ],
    ids=["unknown key", "missing key", "unknown kind", "twice", "no YAML", "nothing"],
)
def test_what_is_wrong_is_named(read, text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        read(text)


def test_a_card_s_texts_need_every_part(read):
    with pytest.raises(ConfigError, match="summary"):
        read("title: x", read_about)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_materials(tmp_path / "none.yaml")
