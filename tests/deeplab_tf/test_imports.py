"""Data goes one way; so do imports."""

import ast
from pathlib import Path

import pytest

import deeplab_tf
from deeplab_tf.networks import BACKBONES

ROOT = Path(__file__).resolve().parents[2]
# Each line may import from the lines above it and from itself, and from nothing else of ours.
FLOORS = [
    ["errors"],
    ["runtime"],
    ["dataset_info"],
    ["images"],
    ["layers"],
    ["crf"],
    ["config"],
    ["experiments"],
    ["networks"],
    ["weights"],
    ["workdir"],
    ["inference"],
    ["evaluation"],
    ["training", "export"],
    ["shipped"],
    ["model_flags"],
    ["batch", "webapp"],
    ["batch_predict"],
    ["commands"],
]
FORMER_NAMES = {"mean_field", "prediction"}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The package itself is `BACKBONES`: names, whose classes are imported when they are first used.
NAMES_OF_BACKBONES = "deeplab_tf.networks"
ALLOWED_EVERYWHERE = {"deeplab_tf.errors", "deeplab_tf.dataset_info", "deeplab_tf.runtime.files"}
# Leaves that have one thing which others need: the H and W of a tensor, a constant, a wire format.
ALLOWED_EVERYWHERE |= {
    "deeplab_tf.layers.resize",
    "deeplab_tf.layers.portable",
    "deeplab_tf.images.mean",
    "deeplab_tf.runtime.protobuf",
}
LEAVES = """
    layers/winograd layers/portable layers/forward_only layers/pooling layers/resize layers/dropout
    networks/normalization
    crf/params crf/permutohedral
    training/losses training/optimizer evaluation/metrics images/visualize images/fit images/orientation inference/fold
    images/mean export/warm_up runtime/protobuf runtime/native_messages runtime/threads runtime/files batch/manifest
""".split()
WITH_FLAGS = {"command_line.py", "model_flags.py", "__main__.py", "batch_predict.py", "convert.py", "check.py"}
WITH_FLAGS |= {"train.py", "eval.py", "predict.py", "export.py"}


def imported(path):
    """Every module that a file imports, as a dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def own(path, package):
    """The modules of one of our packages that a file imports; a package only where nothing of it is named."""
    found = imported(path) & {name_of(file) for file in (ROOT / package).rglob("*.py")}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)} - {package}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_of_ours(leaf):
    assert own(ROOT / "deeplab_tf" / f"{leaf}.py", "deeplab_tf") <= ALLOWED_EVERYWHERE


def test_atrous_convolution_knows_only_a_faster_way_to_compute_it():
    known = {f"deeplab_tf.layers.{name}" for name in ("forward_only", "portable", "winograd", "resize")}
    assert own(ROOT / "deeplab_tf" / "layers" / "atrous.py", "deeplab_tf") == known


def room_of(module):
    return module.split(".")[1]


@pytest.mark.parametrize("path", sorted((ROOT / "deeplab_tf").rglob("*.py")), ids=lambda path: name_of(path))
def test_rooms_import_downwards_only(path):
    if name_of(path) == "deeplab_tf" or room_of(name_of(path)) in FORMER_NAMES:
        return
    here = room_of(name_of(path))
    for module in own(path, "deeplab_tf") - {NAMES_OF_BACKBONES}:
        there = room_of(module)
        assert here == there or FLOOR_OF[there] < FLOOR_OF[here], f"{name_of(path)} imports {module}"


def test_the_names_of_the_backbones_import_nothing_when_they_are_read():
    lines = (ROOT / "deeplab_tf" / "networks" / "__init__.py").read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert not [line for line in imports if "deeplab_tf" in line or "tensorflow" in line or "keras" in line]


def test_the_model_never_imports_the_data_sets():
    for path in (ROOT / "deeplab_tf").rglob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == "datasets"}, path


def test_the_data_sets_take_little_of_the_model():
    allowed = {"errors", "dataset_info", "images", "runtime"}
    for path in (ROOT / "datasets").rglob("*.py"):
        # A command may know what train.py would do; nothing else in datasets does.
        settings = {"config", "experiments"} if path.name == "check.py" else set()
        assert {room_of(module) for module in own(path, "deeplab_tf")} <= allowed | settings, path


def test_the_data_sets_name_each_other_relatively_so_that_they_can_be_installed_under_another_name():
    for path in (ROOT / "datasets").rglob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == "datasets"}, path


def test_flags_are_read_in_command_line_files_only():
    files = [*ROOT.glob("*.py"), *(ROOT / "deeplab_tf").rglob("*.py"), *(ROOT / "datasets").rglob("*.py")]
    with_flags = {path.name for path in files if imported(path) & {"absl.flags", "absl.app"}}
    assert with_flags == WITH_FLAGS


def test_the_map_of_the_package_names_every_file_in_its_room():
    named, room = set(), ""
    for line in (deeplab_tf.__doc__ or "").split("The rooms:")[1].splitlines():
        if not line.startswith("    ") or line.split()[:2] == ["paper", "room"]:
            continue
        place, files = line[30:48].strip(), line[48:]
        room = place.rstrip("/") if place else room
        named |= {f"{room}/{word}" if room != "." else word for word in files.split()}
    # A new backbone is one file and one line, which is in `BACKBONES`.
    named |= {backbone.__module__.removeprefix("deeplab_tf.").replace(".", "/") for backbone in BACKBONES.values()}
    tree = {
        str(path.relative_to(ROOT / "deeplab_tf").with_suffix(""))
        for path in (ROOT / "deeplab_tf").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert named == tree, (sorted(named - tree), sorted(tree - named))
