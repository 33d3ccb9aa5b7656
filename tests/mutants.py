"""Small changes to a module, one at a time: does a test notice?

    python -m tests.mutants [MODULE ...] [--count=25] [--seed=0] [--seconds=600]

MODULE is a name of `TESTS`. A change, drawn at random, is one operator, number, condition or statement; each runs
the tests that belong to the module, in a copy of the project, until one fails. Results stay in build/mutants.json, and
the next call goes on from there; docs/reliability.json counts them. A change that no test notices is either a test
that is missing or a change that makes no difference: look at it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests import ledger

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutants.json"
_MEMORY = "tests/deeplab_tf/inference/test_extremes.py::test_the_crf_of_an_image_that_the_memory_cannot_hold_is_refused"
TESTS = {
    "deeplab_tf/layers/atrous.py": ["tests/deeplab_tf/layers/test_atrous.py"],
    "deeplab_tf/layers/winograd.py": ["tests/deeplab_tf/layers/test_winograd.py"],
    "deeplab_tf/training/losses.py": ["tests/deeplab_tf/training/test_losses.py"],
    "deeplab_tf/evaluation/metrics.py": ["tests/deeplab_tf/evaluation/test_metrics.py"],
    "deeplab_tf/training/optimizer.py": ["tests/deeplab_tf/training/test_optimizer.py"],
    "deeplab_tf/crf/dense_crf.py": ["tests/deeplab_tf/crf/test_dense_crf.py", _MEMORY],
    "deeplab_tf/crf/backends.py": ["tests/deeplab_tf/crf/test_compiled.py", _MEMORY],
    "deeplab_tf/crf/with_kernels.py": ["tests/deeplab_tf/crf/test_compiled.py"],
    "deeplab_tf/crf/with_tensorflow.py": ["tests/deeplab_tf/crf/test_dense_crf.py"],
    "deeplab_tf/crf/with_pydensecrf.py": ["tests/deeplab_tf/crf/test_dense_crf.py"],
    "deeplab_tf/crf/compiled.py": ["tests/deeplab_tf/crf/test_compiled.py"],
    "deeplab_tf/crf/compiled_team.py": ["tests/deeplab_tf/crf/test_compiled.py"],
    "deeplab_tf/crf/mean_field.py": ["tests/deeplab_tf/crf/test_dense_crf.py"],
    "deeplab_tf/crf/pruning.py": ["tests/deeplab_tf/crf/test_pruning.py"],
    "deeplab_tf/crf/permutohedral.py": [
        "tests/deeplab_tf/crf/test_permutohedral.py",
        "tests/deeplab_tf/crf/test_dense_crf.py",
    ],
    "datasets/stored/tfrecord.py": ["tests/datasets/stored/test_tfrecord.py"],
    "datasets/stored/records.py": ["tests/datasets/stored/test_records.py"],
}
_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_NAMES = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "reduce_max": "reduce_min"}
_NAMES |= {"reduce_sum": "reduce_mean", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


def sites(tree: ast.Module) -> list[tuple[int, str]]:
    """Lists what can be changed: the number of the node in the order of a walk, and how."""
    found = []
    silent = set()
    for number, node in enumerate(ast.walk(tree)):
        # Messages, types and documentation are no mathematics, nor is a check that lengths agree.
        hidden: list[Any] = []
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            hidden = [node]
        elif isinstance(node, ast.FunctionDef):
            hidden = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            hidden = [node.annotation]
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            hidden = [node.value]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            hidden = [node]
        for part in hidden:
            silent |= {id(inner) for inner in ast.walk(part)} if part is not None else set()
        if id(node) in silent:
            continue
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _SWAPS:
            found.append((number, "operator"))
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
            found.append((number, "comparison"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            found.append((number, "constant"))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            found.append((number, "sign"))
        elif isinstance(node, ast.If | ast.IfExp):
            found.append((number, "condition"))
        elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
            found.append((number, "attribute"))
        elif isinstance(node, ast.Name) and node.id in _NAMES:
            found.append((number, "name"))
        elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            found.append((number, "statement"))
    return found


def change(tree: ast.Module, number: int, kind: str) -> tuple[str, str]:
    """Changes a node; returns the text of the module, and what was changed into what."""
    tree = copy.deepcopy(tree)
    node: Any = list(ast.walk(tree))[number]
    before = ast.unparse(node).splitlines()[0]
    line = getattr(node, "lineno", 0)
    if kind == "operator":
        node.op = _SWAPS[type(node.op)]()
    elif kind == "comparison":
        node.ops[0] = _SWAPS[type(node.ops[0])]()
    elif kind == "constant":
        value = node.value
        node.value = (
            (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 2 + 0.5
        )
    elif kind == "condition":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind == "attribute":
        node.attr = _NAMES[node.attr]
    elif kind == "name":
        node.id = _NAMES[node.id]
    else:
        for parent in ast.walk(tree):
            for field, value in ast.iter_fields(parent):
                if value is node:
                    setattr(parent, field, node.operand)
                elif isinstance(value, list) and node in value:
                    value[value.index(node)] = ast.Pass() if kind == "statement" else node.operand
        return ast.unparse(ast.fix_missing_locations(tree)), f"{line}: {before}  ->  without it"
    text = ast.unparse(ast.fix_missing_locations(tree))
    return text, f"{line}: {before}  ->  {ast.unparse(node).splitlines()[0]}"


def survives(project: Path, module: str, text: str, seconds: float) -> bool:
    """Runs the module's tests on a changed text, in a forked process; a test that hangs has noticed."""
    sound = (ROOT / module).read_text(encoding="utf-8")
    (project / module).write_text(text, encoding="utf-8")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.chdir(project)
        sys.path.insert(0, str(project))
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.split(".")[0] in ("deeplab_tf", "datasets", "tests")]:
            del sys.modules[name]
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--rootdir", str(project)]
        os._exit(int(pytest.main([*options, *TESTS[module]])))
    until = time.monotonic() + seconds
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.05)
    (project / module).write_text(sound, encoding="utf-8")
    return ended != (0, 0) and os.waitstatus_to_exitcode(ended[1]) == 0


def try_module(project: Path, module: str, count: int, seed: int, until: float) -> None:
    """Tries changes of one module until the time is over; prints the survivors."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    text = (ROOT / module).read_text(encoding="utf-8")
    known = results.setdefault(module, {}).setdefault(_state(module), {})
    tree = ast.parse(text)
    begin = time.monotonic()
    # The same text, only written by `ast`: its tests have to pass, and this is how long they take.
    if not survives(project, module, ast.unparse(tree), 600):
        sys.exit(f"{module}: its tests do not pass as it is")
    limit = 3 * (time.monotonic() - begin) + 30
    chosen = random.Random(seed).sample(places := sites(tree), min(count, len(places)))
    for number, kind in chosen:
        changed, what = change(tree, number, kind)
        if what in known:
            continue
        if time.monotonic() > until:
            break
        known[what] = "survived" if survives(project, module, changed, limit) else "killed"
        if known[what] == "survived":
            print(f"{module}:{what}", flush=True)
        ledger.add("mutants", module, runs=0, killed=known[what] == "killed", survived=known[what] == "survived")
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))
    killed = sum(result == "killed" for result in known.values())
    print(f"{module}: {killed} of {len(known)} changes noticed, of {len(places)} places", flush=True)


def _state(module: str) -> str:
    """Names the module and its tests as they are: results for others do not count."""
    text = b"".join((ROOT / test.split("::")[0]).read_bytes() for test in (module, *TESTS[module]))
    return hashlib.sha256(text).hexdigest()[:12]


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Imported before the forks, and nothing is computed with it.
    import cv2  # noqa: F401
    import keras  # noqa: F401
    import scipy  # noqa: F401
    import tensorflow  # noqa: F401

    until = time.monotonic() + flags.seconds
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        for name in ("deeplab_tf", "datasets", "tests"):
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "models", "scripts"):
            (project / name).symlink_to(ROOT / name)
        for module in flags.modules:
            try_module(project, module, flags.count, flags.seed, until)


if __name__ == "__main__":
    main()
