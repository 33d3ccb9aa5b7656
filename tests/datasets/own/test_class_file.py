"""Files of classes, in the forms in which people and tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.own import class_file
from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

NAMES = ("background", "disc", "box")
IN_ORDER = {0: 0, 1: 1, 2: 2}
COLOURS = {(0, 0, 0): 0, (250, 50, 83): 1, (51, 221, 255): 2}


def read(tmp_path: Path, text: str, name: str = "classes.txt", encoding: str = "utf-8") -> class_file.ClassTable:
    (tmp_path / name).write_bytes(text.encode(encoding))
    return class_file.read(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "background\ndisc\nbox\n",
        "background\r\ndisc\r\nbox\r\n",
        "\n  background \n\ndisc\nbox",
        "# my classes\nbackground\ndisc\nbox\n",
        "// my classes\nbackground  # nothing\ndisc\nbox\n",
        '"background"\n"disc"\n"box"\n',
        "_background_\ndisc\nbox\n",
        "__ignore__\n_background_\ndisc\nbox\n",
        "0 background\n1 disc\n2 box\n",
        "1 disc\n2 box\n0 background\n",
        "2: box\n0: background\n1: disc\n",
        "0\tbackground\n1\tdisc\n2\tbox\n",
        "2,box\n1,disc\n0,background\n",
    ],
)
def test_names_and_numbers_are_read_in_every_form(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.names == NAMES
    assert dict(table.numbers) == IN_ORDER
    assert not table.colours


@pytest.mark.parametrize(
    "text",
    [
        "background 0 0 0\ndisc 250 50 83\nbox 51 221 255\n",
        "0 0 0 background\n250 50 83 disc\n51 221 255 box\n",
        "background #000000\ndisc #fa3253\nbox #33DDFF\n",
        "#000000 background\n#fa3253 disc\n#33ddff box\n",
        "background,0,0,0\ndisc, 250, 50, 83\nbox;51;221;255\n",
        "background: (0, 0, 0)\ndisc: (250, 50, 83)\nbox: [51, 221, 255]\n",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndisc:250,50,83::\nbox:51,221,255::\n",
        "0 background 0 0 0\n1 disc 250 50 83\n2 box 51 221 255\n",
        "name,r,g,b\nbackground,0,0,0\ndisc,250,50,83\nbox,51,221,255\n",
        "name, color\nbackground, #000000\ndisc, #fa3253\nbox, #33ddff\n",
    ],
)
def test_colours_are_read_in_every_form(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.names == NAMES
    assert dict(table.colours) == COLOURS
    assert table.palette == tuple(COLOURS)


@pytest.mark.parametrize("header", ["Pixel Value, Class", "Pixel Value,Class", "id;name", "Class ID\tClass Name"])
def test_a_header_says_what_the_columns_are(tmp_path: Path, header: str) -> None:
    sign = next(sign for sign in ",;\t" if sign in header)
    table = read(tmp_path, f"{header}\n2{sign} box\n0{sign} background\n1{sign} disc\n", "_classes.csv")
    assert (table.names, dict(table.numbers), table.numbered) == (NAMES, IN_ORDER, True)


def test_a_table_of_one_column_has_a_header_too(tmp_path: Path) -> None:
    assert read(tmp_path, "class\nbackground\ndisc\nbox\n", "classes.csv").names == NAMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning_says_how_the_text_is_encoded(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, "Straße\nBäume\n", encoding=encoding).names == ("Straße", "Bäume")


def test_names_may_have_commas_and_other_signs(tmp_path: Path) -> None:
    assert read(tmp_path, "disc, round\nbox;square\nC# 4\n").names == ("disc, round", "box;square", "C# 4")


@pytest.mark.parametrize("name", ["ignore", "__ignore__", "Ignored"])
def test_a_class_to_be_ignored_is_none(tmp_path: Path, name: str) -> None:
    table = read(tmp_path, f"background\ndisc\n{name}\nbox\n")
    assert table.names == NAMES
    assert dict(table.numbers) == {0: 0, 1: 1, 2: IGNORE_LABEL, 3: 2}


def test_labelmes_first_line_takes_no_number(tmp_path: Path) -> None:
    assert dict(read(tmp_path, "__ignore__\nbackground\ndisc\n").numbers) == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background\n---\n", "cannot read the line '---'"),
        ("background\n12 34\n", "cannot read the line '12 34'"),
        ("{\n'a': 1\n}\n", "cannot read the line '{'"),
        ("0 background\n1 disc\nbox\n", "cannot read the line 'box' as a number and a name"),
        ("1 disc\n1 box\n", "every number once, got '1 box' again"),
        ("name,r,g,b\nbackground,0,0\n", "cannot read the line 'background,0,0'"),
        ("a 1 2 3\nb 300 2 3\n", "got 'b 300 2 3'"),
        ("a:1,2,3::\nb:1,2::\n", "cannot read the line 'b:1,2::'"),
        ("disc\nbox\ndisc\n", "found twice: disc"),
        ("# nothing\n", "the file is empty"),
        ("Pixel Value, Class\n", "below the header, found none"),
        ("ignore\n", "1 to 255 class names, each once, got 0"),
    ],
)
def test_a_line_that_is_not_understood_is_quoted(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value)
    assert "classes.txt: " in str(raised.value)


def test_text_in_an_old_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="UTF-8"):
        read(tmp_path, "Bäume\n", encoding="latin-1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.yaml", "[background, disc, box]"),
        ("classes.yaml", "names: [background, disc, box]"),
        ("classes.yml", "names:\n  0: background\n  2: box\n  1: disc\n"),
        ("classes.json", '["background", "disc", "box"]'),
        ("classes.json", '{"box": 2, "disc": 1, "background": 0}'),
        ("classes.json", '{"2": "box", "1": "disc", "0": "background"}'),
        (
            "classes.json",
            '{"classes": [{"id": 2, "name": "box"}, {"id": 0, "name": "background"}, {"id": 1, "name": "disc"}]}',
        ),
    ],
)
def test_yaml_and_json_name_classes_too(tmp_path: Path, name: str, text: str) -> None:
    table = read(tmp_path, text, name)
    assert table.names == NAMES
    assert dict(table.numbers) == IN_ORDER


@pytest.mark.parametrize(
    "text",
    [
        '{"background": [0, 0, 0], "disc": [250, 50, 83], "box": [51, 221, 255]}',
        '[{"name": "background", "color": "#000000"}, {"name": "disc", "color": [250, 50, 83]},'
        ' {"name": "box", "color": "#33ddff"}]',
    ],
)
def test_json_gives_colours_too(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text, "classes.json")
    assert (table.names, dict(table.colours)) == (NAMES, COLOURS)


@pytest.mark.parametrize("text", ["{", "3", "{}", '{"names": []}', '{"a": true}', "[[1], [2]]", '[{"id": 1}]'])
def test_json_that_names_no_classes_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"classes\.json: expected"):
        read(tmp_path, text, "classes.json")


def test_a_background_without_a_colour_is_black_if_no_class_is(tmp_path: Path) -> None:
    assert dict(read(tmp_path, "background\ndisc 250 50 83\nbox 51 221 255\n").colours) == COLOURS
    with pytest.raises(UserError, match="a colour for every class"):
        read(tmp_path, "background\ndisc 0 0 0\nbox 51 221 255\n")
    with pytest.raises(UserError, match="a colour for every class"):
        read(tmp_path, "disc\nbackground 250 50 83\nbox 51 221 255\n")
