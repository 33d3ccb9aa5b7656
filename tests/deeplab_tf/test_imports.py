"""Data goes one way; so do imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED_EVERYWHERE = {"deeplab_tf.errors", "deeplab_tf.dataset_info", "deeplab_tf.files"}
LEAVES = "winograd losses metrics normalization optimizer permutohedral pooling resize visualize dropout".split()
LEAVES += "fold warm_up fixed_size native_messages image_files in_order batch/manifest".split()
WITH_FLAGS = {"command_line.py", "model_flags.py", "__main__.py", "batch_predict.py", "convert.py", "check.py"}
WITH_FLAGS |= {"train.py", "eval.py", "predict.py", "export.py"}


def imported(path):
    """Every module that a file imports, as a dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def own(path, package):
    return imported(path) & {name_of(file) for file in (ROOT / package).rglob("*.py")} - {package}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_of_ours(leaf):
    assert own(ROOT / "deeplab_tf" / f"{leaf}.py", "deeplab_tf") <= ALLOWED_EVERYWHERE


def test_atrous_convolution_knows_only_a_faster_way_to_compute_it():
    assert own(ROOT / "deeplab_tf" / "atrous.py", "deeplab_tf") == {"deeplab_tf.winograd"}


def test_the_model_never_imports_the_data_sets():
    for path in (ROOT / "deeplab_tf").rglob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == "datasets"}, path


def test_the_data_sets_take_little_of_the_model():
    allowed = ALLOWED_EVERYWHERE | {
        f"deeplab_tf.{name}" for name in ("beam", "command_line", "image_files", "visualize")
    }
    for path in (ROOT / "datasets").glob("*.py"):
        # A command may know what train.py would do; nothing else in datasets does.
        settings = {"deeplab_tf.config"} if path.name == "check.py" else set()
        assert own(path, "deeplab_tf") <= allowed | settings, path


def test_flags_are_read_in_command_line_files_only():
    files = [*ROOT.glob("*.py"), *(ROOT / "deeplab_tf").rglob("*.py"), *(ROOT / "datasets").glob("*.py")]
    with_flags = {path.name for path in files if imported(path) & {"absl.flags", "absl.app"}}
    assert with_flags == WITH_FLAGS
