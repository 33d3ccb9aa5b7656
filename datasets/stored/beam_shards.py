"""Makes shards with Apache Beam, one element a shard, by the function that `workers` calls in its processes."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import beam

from .shards import Job, Shard, make_shard, note_path, unchanged_shard


class _MakeShard(apache_beam.DoFn):
    def process(self, job: Job) -> None:
        make_shard(job, lambda _: None, Metrics.counter(beam.COUNTERS, "images").inc)


def make_shards(jobs: Sequence[Job], options: PipelineOptions) -> dict[str, Shard]:
    """Makes shards on the machines of a runner.

    Args:
        jobs: the shards, all in one folder, which all machines have to see, under this path.
        options: Beam's, the runner among them.

    Returns:
        The shards by their file names, read once more and found whole.

    Raises:
        UserError: the folder cannot be written or is not shared, or the `load` of a job raises it.
        ValueError: only some examples of a shard have labels.
    """

    def build(pipeline: apache_beam.Pipeline) -> None:
        _ = (
            pipeline
            | "Jobs" >> apache_beam.Create(jobs)
            | "SpreadJobs" >> apache_beam.Reshuffle()
            | "MakeShard" >> apache_beam.ParDo(_MakeShard())
        )

    sizes = {note_path(job.path).name: len(job.ids) for job in jobs}
    staging = jobs[0].path.parent
    with beam.show_finished(sizes, lambda: [path.name for path in staging.glob("*.json")]):
        beam.run(build, options)
    finished = {}
    for job in jobs:
        shard = unchanged_shard(job)
        if shard is None:
            raise UserError(
                f"{job.path}: expected the shard that a machine of the runner made, found none or another one. Give"
                " --root and --out in folders that all machines see under the same path."
            )
        finished[job.path.name] = shard
    return finished
