"""MATLAB files: what comes back, and what is said of files that cannot be read."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datasets.raw import mat_files
from datasets.sources import sbd
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_an_array_comes_back_with_its_shape(tmp_path: Path, options: dict) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.arange(5.0)[None], "y": np.ones((2, 2))}, **options)
    values = mat_files.read_variable(tmp_path / "a.mat", "x")
    np.testing.assert_array_equal(values, [[0, 1, 2, 3, 4]])


def test_a_struct_has_its_fields_as_they_were(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"s": {"row": np.ones((1, 7)), "text": "abc"}})
    found = mat_files.only_struct("a.mat", mat_files.read_variable(tmp_path / "a.mat", "s"))
    assert mat_files.field("a.mat", found, "row").shape == (1, 7)
    with pytest.raises(UserError, match=r"a\.mat: expected a struct with the field 'other'"):
        mat_files.field("a.mat", found, "other")
    with pytest.raises(UserError, match=r"a\.mat: expected one struct, got an array of 2 of type float64"):
        mat_files.only_struct("a.mat", np.ones((1, 2)))


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"x": 1})
    with pytest.raises(UserError, match=r"a\.mat: expected the variable 'LabelMap' in it, found none"):
        mat_files.read_variable(tmp_path / "a.mat", "LabelMap")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"hello", "expected a whole .mat file"), (bytes(300), "expected a whole .mat file")],
)
def test_what_is_no_mat_file_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.mat: .*{reason}"):
        mat_files.read_variable(tmp_path / "a.mat", "x")


def test_version_7_3_is_refused_with_the_remedy(tmp_path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "a.mat").write_bytes(header + bytes(400))
    with pytest.raises(UserError, match=r"a\.mat: .*got version 7\.3.*-v7\."):
        mat_files.read_variable(tmp_path / "a.mat", "x")


def test_damage_to_a_compressed_file_is_one_line_and_never_other_labels(tmp_path: Path) -> None:
    """A few bits do not matter to the decompressor: then the labels are the right ones."""
    path = tmp_path / "a.mat"
    raw_trees.save_sbd(path, raw_trees.box(15))
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        place = rng.randrange(128, len(whole))  # before it is text that says when the file was made
        if rng.random() < 0.5:
            damaged[place] ^= 1 << rng.randrange(8)
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(sbd.read_labels(path, 21), raw_trees.box(15))
        except UserError as error:
            assert re.fullmatch(r".*a\.mat: expected .+", str(error))
            refused += 1
    assert refused > 280


def test_without_scipy_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match=r"expected the package scipy.*pip install -r requirements\.txt"):
        mat_files.read_variable(tmp_path / "a.mat", "x")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, bool])
def test_a_label_map_may_have_any_type_of_number(dtype: type) -> None:
    labels = mat_files.label_map("a.mat", np.array([[0, 1], [1, 0]], dtype), 1)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 22]]), r"labels 0\.\.21, got 22\."),
        (np.array([[-1.0, 0.5, np.nan]]), r"labels 0\.\.21, got -1\.0, 0\.5, nan\."),
        (np.zeros((0, 0)), r"a map of numbers \[H, W\], got float64 \[0, 0\]"),
        (np.zeros((2, 2, 3)), r"a map of numbers \[H, W\], got float64 \[2, 2, 3\]"),
        (np.array([["a"]]), r"a map of numbers"),
    ],
)
def test_what_is_no_label_map_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.mat: expected {message}"):
        mat_files.label_map("a.mat", values, 21)
