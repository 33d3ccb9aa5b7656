import ast
import os
import subprocess
import sys
from pathlib import Path

import datasets
from deeplab_tf.commands.data_sets import data_sets

ROOT = Path(__file__).resolve().parents[3]
CODE = "from deeplab_tf.commands.data_sets import data_sets; print(data_sets('source').__file__)"


def run(*path, cwd):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-P", "-c", CODE], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_in_a_checkout_the_data_sets_are_the_folder_beside_the_model():
    assert data_sets() is datasets and data_sets("stored.tfrecord") is sys.modules["datasets.stored.tfrecord"]


def test_another_package_of_the_name_is_never_taken_for_ours(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    (tmp_path / "datasets" / "source.py").touch()
    refused = run(tmp_path, ROOT, cwd=tmp_path)
    assert refused.returncode == 1
    assert (
        f"UserError: `import datasets` finds {tmp_path / 'datasets'} instead of {ROOT / 'datasets'}." in refused.stderr
    )
    found = run(ROOT, tmp_path, cwd=tmp_path)
    assert found.stdout.strip() == str(ROOT / "datasets" / "source.py"), found.stderr


def test_one_file_of_the_model_names_the_data_sets():
    names = {"datasets", "deeplab_tf._datasets"}
    naming = [
        path.name
        for path in (ROOT / "deeplab_tf").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert set(naming) == {"data_sets.py"}
