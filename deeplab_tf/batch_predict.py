r"""Labels an archive of images with Apache Beam, on this machine or on many.

    python -m deeplab_tf.batch_predict --model=exported/mine/saved_model/1 --images='photos/**.jpg' --out=answers/
    python -m deeplab_tf.batch_predict --model=... --images=photos/ --out=answers/ --direct_num_workers=2
    python -m deeplab_tf.batch_predict --model=... --images='gs://mine/data/train-*.tfrecord' --out=gs://mine/answers \
        --format=tfrecord --runner=DataflowRunner --project=... --region=... --temp_location=gs://mine/tmp

The results equal those of predict.py. For photos/a/cat.jpg it writes answers/a/cat.png, a palette PNG whose values are
the class indices. OUT/manifest.jsonl has a line for each image, OUT/failures.jsonl one for each that could not be read,
with the reason; the exit status is then 1. After an interruption, repeat the command to label the rest.

It needs requirements-beam.txt. docs/scale.md says what to set for Flink, Spark and Dataflow. The command also accepts
all flags of Beam and its runners.
"""

from __future__ import annotations

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line

_MOST_SHOWN = 10


def main(arguments: list[str]) -> int:
    """Wires flags, model and pipeline together; returns the exit status."""
    import os
    import sys

    from deeplab_tf.runtime import beam

    values = flags.FLAGS
    for name in ("model", "images", "out"):
        if not values[name].value:
            raise UserError(f"--{name} is missing. Try --help.")
    beam.require_beam()
    options = beam.pipeline_options(values.runner, arguments)

    from deeplab_tf.batch.job import FAILURES, absolute, find_inputs, run_job
    from deeplab_tf.batch.pipeline import COUNTED, Request, describe_model

    out, model = absolute(values.out), absolute(values.model)
    inputs = find_inputs(values.images, out)
    description = describe_model(model)
    if values.crf and description.crf:
        raise UserError(f"{values.model} has the CRF inside: leave --crf out.")
    request = Request(
        model=model,
        out=out,
        root=inputs.root,
        crf=description.config.crf if values.crf else None,
        as_records=values.format == "tfrecord",
        batch_size=values.batch_size if None in description.size else 1,
        threads=beam.threads_of_a_worker(options, len(os.sched_getaffinity(0))),
    )
    outcome = run_job(inputs, request, description, options, values.images_per_block)
    failures = [entry for entry in outcome.entries if entry.reason]
    print(f"{len(outcome.entries) - len(failures)} of {len(outcome.entries)} image(s) labelled in {values.out}")
    counters = {name: outcome.counters.get(name, 0) for name in COUNTED}
    print(
        f"in this run: images {counters['images']}, failures {counters['failures']}, network "
        f"{counters['network_milliseconds'] / 1000:.1f} s, CRF {counters['crf_milliseconds'] / 1000:.1f} s"
    )
    if failures:
        print("\n".join([f"{len(failures)} not labelled:", *map(str, failures[:_MOST_SHOWN])]), file=sys.stderr)
        print(f"the full list: {out}/{FAILURES}", file=sys.stderr)
    return 1 if failures else 0


def _define_flags() -> None:
    flags.DEFINE_string("model", "", "The SavedModel that export.py wrote: OUT/saved_model/1.")
    flags.DEFINE_string(
        "images",
        "",
        "A folder of images, a pattern in quotes (* stops at a slash, ** does not), or TFRecord files (.tfrecord) of"
        " datasets.convert.",
    )
    flags.DEFINE_string(
        "out", "", "Folder for the results. Paths may be on any file system that Beam supports: gs://..."
    )
    flags.DEFINE_bool("crf", False, "Refine with the dense CRF.")
    flags.DEFINE_enum("format", "png", ["png", "tfrecord"], "Write one PNG per image, or TFRecord files of PNGs.")
    flags.DEFINE_integer(
        "images_per_block",
        100,
        "Images per unit of work. A run that was interrupted repeats unfinished units.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size", 4, "Largest number of images of one size that the network processes at once.", lower_bound=1
    )
    flags.DEFINE_string(
        "runner", "DirectRunner", "Beam runner: DirectRunner (this machine), FlinkRunner, DataflowRunner, ..."
    )


if __name__ == "__main__":
    _define_flags()
    command_line.run(main, takes_other_flags=True, frozen_weights=True)
