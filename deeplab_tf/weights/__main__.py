"""Lists the contents of a weights file, or converts it to this project's format.

  python -m deeplab_tf.weights inspect FILE
  python -m deeplab_tf.weights convert IN OUT.weights.h5

inspect lists every tensor, and the experiments that the file fits. convert loads IN into the network of --experiment,
or of the first experiment that it fits, and writes OUT for --weights and --init. OUT is smaller than the Caffe file of
a multi-scale network, and loads faster.
"""

from __future__ import annotations

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run


def _define_flags() -> None:
    # Inside a function, because absl's flags are global and other commands have some of the same names.
    flags.DEFINE_string("experiment", "", "convert: the experiment of IN. Default: the first one that fits.")
    flags.DEFINE_bool("overwrite", False, "convert: replace OUT.")


def main(arguments: list[str]) -> None:
    """Wires the arguments to `inspect` or `convert`."""
    match arguments:
        case ["inspect", path]:
            inspect(path)
        case ["convert", source, target]:
            convert(source, target, flags.FLAGS.experiment, flags.FLAGS.overwrite)
        case _:
            raise UserError("expected: inspect FILE, or: convert IN OUT.weights.h5. Try: --help")


def inspect(path: str) -> None:
    """Prints the tensors of a file and the experiments it belongs to.

    Raises:
        UserError: no such file, or one that cannot be read.
    """
    import math

    from deeplab_tf.weights import find_fit, list_tensors
    from deeplab_tf.weights.fit import UnknownBackboneError

    tensors = list_tensors(path)
    width = max((len(name) for name, _, _ in tensors), default=4)
    for name, dtype, shape in tensors:
        print(f"{name:<{width}}  {dtype!s:<9} {'x'.join(map(str, shape)) or 'scalar'}")
    print(f"{len(tensors)} tensors, {sum(math.prod(shape) for _, _, shape in tensors) / 1e6:.1f}M values")
    try:
        fit = find_fit(path)
    except UnknownBackboneError as error:
        print(f"fits no experiment: {error}")
        return
    print(f"fits {', '.join(fit.experiments)}; {fit.num_classes} classes" if fit else "fits no experiment by its head")


def convert(source: str, target: str, experiment: str, overwrite: bool) -> None:
    """Writes a file's weights as `.weights.h5`.

    Args:
        source: any file that `load_weights` reads.
        target: ends .weights.h5.
        experiment: whose network it is; "" to tell from the file.
        overwrite: replace `target`.

    Raises:
        UserError: a file that cannot be read, is incomplete or belongs to no experiment, or a target that exists.
    """
    import os

    from deeplab_tf.networks.deeplab import build_model
    from deeplab_tf.runtime import files
    from deeplab_tf.weights import find_fit, load_weights
    from deeplab_tf.weights.fit import UnknownBackboneError

    if not target.endswith(".weights.h5"):
        raise UserError(f"convert writes files ending .weights.h5, got {target}.")
    if os.path.exists(target) and not overwrite:
        raise UserError(f"{target} exists; name another file, or give --overwrite.")
    try:
        fit = find_fit(source)
    except UnknownBackboneError as error:
        raise UserError(f"{source} fits no experiment: {error}.") from error
    if fit is None:
        raise UserError(f"{source} holds no classifier of a DeepLabv2 network; expected fc8_* or fc1_* or aspp.c*.")
    name = experiment or fit.experiments[0]
    model = build_model(name, fit.num_classes)
    report = load_weights(model, source)
    print(report)
    if report.missing:
        raise UserError(
            f"{source} does not hold all of {name}: {len(report.missing)} tensors are "
            f"missing, such as {report.missing[-1]}. Nothing was written."
        )
    files.write_atomically(target, model.save_weights)
    print(f"{target}: for --experiment={experiment or '|'.join(fit.experiments)}, {fit.num_classes} classes")


if __name__ == "__main__":
    _define_flags()
    run(main, takes_arguments=True)
