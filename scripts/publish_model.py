"""Makes a small copy of a trained network for a repository, with what predict.py, eval.py and export.py read.

  python -m scripts.publish_model --workdir=runs/voc_animals --out=models/voc_animals

Kernels become float16, which changes them by at most one part in 2,048; batch normalisation and biases stay float32.
config.json keeps the settings, the classes, the command and the versions, without the folders of this machine.
"""

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

KEPT = ("split", "init", "date", "git_revision", "versions")
"""What config.json says about the run; its command is in the folder's README."""


def halve(source: str, target: str) -> None:
    """Copies a `.weights.h5` file, kernels as float16.

    Raises:
        UserError: a kernel too large for float16.
    """
    import h5py
    import numpy as np

    from deeplab_tf.weights.readers.hdf5 import open_hdf5, read_array, stored_arrays

    with open_hdf5(source) as before, h5py.File(target, "w") as after:
        for name, dataset in stored_arrays(before):
            array = read_array(dataset)
            if array.ndim == 4:
                if np.abs(array).max() > np.finfo(np.float16).max:
                    raise UserError(f"{source}: {name} holds values that float16 cannot hold.")
                array = array.astype(np.float16)
            after.create_dataset(name, data=array)


def publish(workdir: str, out_dir: str) -> None:
    """Copies what the commands need of a workdir.

    Args:
        workdir: of train.py, after the training.
        out_dir: folder for the copy; made where missing.

    Raises:
        UserError: not a trained network, or the copy cannot be written.
    """
    import json
    import os

    from deeplab_tf import workdir as workdirs
    from deeplab_tf.runtime import files

    workdirs.load(workdir)  # refuses what is not a trained network
    with open(os.path.join(workdir, workdirs.CONFIG_FILE), encoding="utf-8") as file:
        config = json.load(file)
    config.pop("earlier_runs", None)
    config["run"] = {name: config["run"][name] for name in KEPT if name in config["run"]}
    files.make_folder(out_dir, "--out")
    files.write_json(os.path.join(out_dir, workdirs.CONFIG_FILE), config)
    source, target = (os.path.join(folder, workdirs.WEIGHTS_FILE) for folder in (workdir, out_dir))
    files.write_atomically(target, lambda path: halve(source, path))
    workdirs.load(out_dir)
    print(f"{target}: {os.path.getsize(target) / 1e6:.1f} MB, of {os.path.getsize(source) / 1e6:.1f} MB")


def _define_flags() -> None:
    flags.DEFINE_string("workdir", "", "The --workdir of train.py, after the training.")
    flags.DEFINE_string("out", "", "Folder for the copy.")


def main() -> None:
    """Publishes as the flags say."""
    values = flags.FLAGS
    if not values.workdir or not values.out:
        raise UserError("--workdir and --out are required: a workdir of train.py, and a folder for the copy.")
    publish(values.workdir, values.out)


if __name__ == "__main__":
    _define_flags()
    run(main)
