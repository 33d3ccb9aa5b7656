"""Conversions with Apache Beam: the same bytes as without."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

from datasets.convert import convert
from datasets.stored import conversion
from datasets.stored.beam_shards import make_shards
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import beam
from tests.datasets import raw_trees

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def convert_with_beam(tree: raw_trees.Tree, out: Path, *flags: str) -> None:
    make = functools.partial(make_shards, options=beam.pipeline_options("DirectRunner", flags))
    convert(tree.dataset, tree.source, str(out), num_shards=2, make=make)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", ["coco", "cityscapes", "folder"])
def test_shards_and_manifest_are_those_of_a_conversion_without_beam(name: str, tmp_path: Path) -> None:
    tree = raw_trees.MAKERS[name](tmp_path / "raw")
    convert(tree.dataset, tree.source, str(tmp_path / "without"), num_shards=2)
    convert_with_beam(tree, tmp_path / "with")
    found = contents(tmp_path / "with")
    assert found == contents(tmp_path / "without") and len(found) > 2


@pytest.mark.slow
def test_several_processes_make_the_same_shards(tmp_path: Path) -> None:
    tree = raw_trees.MAKERS["coco"](tmp_path / "raw")
    convert(tree.dataset, tree.source, str(tmp_path / "without"), num_shards=2)
    convert_with_beam(tree, tmp_path / "with", "--direct_num_workers=2")
    assert contents(tmp_path / "with") == contents(tmp_path / "without")


@pytest.mark.parametrize("flags", [(), pytest.param(("--direct_num_workers=2",), marks=pytest.mark.slow)])
def test_a_bad_file_is_one_line_and_the_next_call_goes_on(tmp_path: Path, flags: tuple[str, ...]) -> None:
    tree = raw_trees.MAKERS["folder"](tmp_path / "raw")
    convert(tree.dataset, tree.source, str(tmp_path / "without"), num_shards=2)
    whole = tree.image.read_bytes()
    tree.image.write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"img1\.jpg: expected a whole image, cannot decode it \(no known image format\)"
    ):
        convert_with_beam(tree, tmp_path / "with", *flags)
    assert not (tmp_path / "with" / "manifest.json").exists()
    tree.image.write_bytes(whole)
    convert_with_beam(tree, tmp_path / "with", *flags)
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    assert not (tmp_path / "with" / conversion.STAGING).exists()
