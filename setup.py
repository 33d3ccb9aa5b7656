"""What pyproject.toml cannot say: which folder is installed under which name, and the extras of the requirements files.

deeplab_tf/    as deeplab_tf
datasets/      as deeplab_tf._datasets: outside of the checkout the name `datasets` belongs to another package
models/        as deeplab_tf._models
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
EXTRAS = ("crf", "webapp", "beam", "gpu", "export", "lite", "cluster")


def installed(folder: str, name: str) -> list[str]:
    """Lists the packages in a folder by the names that they are installed under."""
    return [name + package.removeprefix(folder) for package in find_packages(include=[folder, f"{folder}.*"])]


def requirements_of(extra: str) -> list[str]:
    """Reads a requirements file, but for the ones that it includes: they are those of the package itself."""
    lines = (ROOT / f"requirements-{extra}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


setup(
    packages=[
        *installed("deeplab_tf", "deeplab_tf"),
        *installed("datasets", "deeplab_tf._datasets"),
        "deeplab_tf._models",
    ],
    package_dir={"deeplab_tf._datasets": "datasets", "deeplab_tf._models": "models"},
    package_data={
        "deeplab_tf": ["py.typed"],
        "deeplab_tf._models": ["*/*"],
        "deeplab_tf.evaluation": ["*.css"],
        "deeplab_tf.webapp": ["page.*"],
    },
    extras_require={extra: requirements_of(extra) for extra in EXTRAS},
)
