"""The blocks through Beam: read, infer, write.

Each step takes a whole block, so that a block is written in one piece. RunInference keeps one model a process. Its
batches are of one block; batches of images, by size, are made inside, where the sizes are known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from deeplab_tf.batch import records, storage
from deeplab_tf.batch.blocks import Picture, SegmentedBlock, segment_block
from deeplab_tf.batch.manifest import Entry, read_lines
from deeplab_tf.batch.plan import Block, is_record_file, png_name, record_png_name, too_long
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from deeplab_tf.export.description import Description, Exported
from deeplab_tf.export.load import load_exported, segmenter_of_export
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.runtime.beam import COUNTERS

NOTES = f"{storage.WORK}/notes"
"""The folder of OUT for the notes of finished blocks."""


COUNTED = ("images", "failures", "network_milliseconds", "crf_milliseconds")
"""The counters, sums over all processes. The network's time has the CRF in it where the model has it inside."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is done with each image; processes exchange it.

    Attributes:
        model: the folder of a SavedModel.
        out: OUT.
        root: names of labels are relative to it.
        crf: refine with these constants; None for not.
        as_records: write TFRecord files instead of PNGs.
        batch_size: images of one size that the network sees at once, at most.
        threads: of TensorFlow in each process; 0 for all cores.
    """

    model: str
    out: str
    root: str
    crf: CrfParams | None
    as_records: bool
    batch_size: int
    threads: int = 0


LoadedBlock = tuple[Block, list[Picture]]


class Handler(ModelHandler[LoadedBlock, PredictionResult, Segmenter]):
    """Loads an exported SavedModel, and segments blocks with it."""

    def __init__(self, request: Request) -> None:
        threads = {"TF_NUM_INTRAOP_THREADS": str(request.threads)} if request.threads else {}
        # A process of a cluster has not seen the settings of the command: see `command_line`.
        settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1", **threads}
        super().__init__(max_batch_size=1, env_vars=settings)
        self._request = request

    def load_model(self) -> Segmenter:
        """Loads the model; RunInference calls it once a process."""
        return load_segmenter(self._request.model, self._request.crf)

    def run_inference(
        self, batch: Sequence[LoadedBlock], model: Segmenter, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        """Segments blocks of images: a `SegmentedBlock` each."""
        for block, pictures in batch:
            yield PredictionResult(
                block, segment_block(model, pictures, self._request.batch_size, self._request.threads or None)
            )

    def get_num_bytes(self, batch: Sequence[LoadedBlock]) -> int:
        """Returns how large the images are, for RunInference's own metrics; by default it would pickle them."""
        return sum(len(picture.data) for _, pictures in batch for picture in pictures)


class ReadBlock(beam.DoFn):
    """From a line of the plan to the block with the bytes of its images."""

    def __init__(self, out: str) -> None:
        self._out = out

    def process(self, line: str) -> Iterator[LoadedBlock]:
        """Reads the images of a block; what cannot be read has the reason with it.

        A cluster that has lost a machine begins anew with all that was dealt out to it. What is done is left out.
        """
        block = Block.from_line(line)
        done = self._entries(block)
        if done:
            _count(done)
            return
        if not is_record_file(block.inputs[0]):
            contents = zip(block.inputs, storage.read_all(block.inputs), strict=True)
            yield block, [_picture(path, data) for path, data in contents]
            return
        [path] = block.inputs
        try:
            with storage.local_copy(path) as copy:
                pictures = records.read_pictures(copy, path)
        except UserError as error:
            pictures = [Picture(path, reason=str(error))]
        except storage.NoRoomError as error:
            raise UserError(str(error)) from error
        yield block, pictures

    def _entries(self, block: Block) -> list[Entry]:
        """Returns what the block's note says of its images; [] where it is not done."""
        note = storage.join(self._out, f"{NOTES}/{block.note}")
        if not storage.exists(note):
            return []
        entries = read_lines(storage.read(note).decode(), note)
        return entries if {entry.input for entry in entries} == set(block.inputs) else []


class WriteBlock(beam.DoFn):
    """Writes the labels of a block, then its note, and counts."""

    def __init__(self, plan: str, request: Request) -> None:
        self._plan = plan
        self._request = request

    def process(self, result: PredictionResult) -> None:
        """Writes one block.

        Raises:
            UserError: a file cannot be written, or another job has begun in OUT.
        """
        block, segmented = result.example, result.inference
        entries, contents = named_labels(block, segmented, self._request)
        self._check_turn()
        if contents:
            storage.write_all(self._request.out, contents)
            self._check_turn()
        # The note comes last: without it the block is done again.
        note = "".join(entry.to_line() for entry in entries)
        storage.write_all(self._request.out, {f"{NOTES}/{block.note}": note.encode()})
        _count(entries, segmented.network_seconds, segmented.crf_seconds)

    def _check_turn(self) -> None:
        """A job that goes on without its first process must not write beside the job that took its place."""
        if not storage.exists(self._plan):
            raise UserError(f"{self._request.out}: the same command was started again there, and this job stops.")


def _count(entries: Sequence[Entry], network_seconds: float = 0.0, crf_seconds: float = 0.0) -> None:
    failures = sum(bool(entry.reason) for entry in entries)
    milliseconds = (round(1000 * seconds) for seconds in (network_seconds, crf_seconds))
    for name, amount in zip(COUNTED, (len(entries) - failures, failures, *milliseconds), strict=True):
        Metrics.counter(COUNTERS, name).inc(amount)


def named_labels(block: Block, segmented: SegmentedBlock, request: Request) -> tuple[list[Entry], dict[str, bytes]]:
    """Gives the labels of a block their names.

    Returns:
        The entries with `output`, and the files to write, by their names relative to OUT.
    """
    entries: list[Entry] = []
    contents: dict[str, bytes] = {}
    root, shard = request.root, block.shard(request.root)
    stored: list[tuple[str, bytes]] = []
    for entry, labels in zip(segmented.entries, segmented.labels, strict=True):
        if entry.reason:
            entries.append(entry)
        elif request.as_records:
            entries.append(dataclasses.replace(entry, output=shard))
            stored.append((entry.record or entry.input, labels))
        else:
            try:
                name = record_png_name(entry.input, root, entry.record) if entry.record else png_name(entry.input, root)
            except ValueError as error:
                entries.append(Entry(entry.input, entry.record, reason=str(error)))
                continue
            reason = too_long(name) if storage.is_local(request.out) else ""
            if reason:
                entries.append(Entry(entry.input, entry.record, reason=reason))
                continue
            entries.append(dataclasses.replace(entry, output=name))
            contents[name] = labels
    if stored:
        contents[shard] = records.write_labels(stored)
    return entries, contents


def build(pipeline: beam.Pipeline, plan: str, request: Request) -> None:
    """Adds the steps to a pipeline.

    Args:
        pipeline: an empty one.
        plan: a file of blocks, one a line.
        request: what is done with each image.
    """
    _ = (
        pipeline
        | "ReadPlan" >> beam.io.ReadFromText(plan)
        | "SpreadBlocks" >> beam.Reshuffle()
        | "ReadBlock" >> beam.ParDo(ReadBlock(request.out))
        | "Segment" >> RunInference(Handler(request))
        | "WriteBlock" >> beam.ParDo(WriteBlock(plan, request))
    )


def load_segmenter(model: str, crf: CrfParams | None) -> Segmenter:
    """Loads a SavedModel of export.py from any file system.

    Raises:
        UserError: it is something else, or damaged.
    """
    return dataclasses.replace(segmenter_of_export(model, _load(model)).segmenter, crf=crf)


def describe_model(model: str) -> Description:
    """Returns what a SavedModel says of itself; it is loaded for that, and forgotten.

    Raises:
        UserError: see `load_segmenter`.
    """
    return _load(model).description


def _load(model: str) -> Exported:
    try:
        with storage.local_copy(model) as copy:
            exported = load_exported(copy)
    except storage.NoRoomError as error:
        raise UserError(str(error)) from error
    if exported.probabilities_of is None:
        raise UserError(f"{model} is a TensorFlow Lite file: take a SavedModel, or predict.py.")
    return exported


def _picture(path: str, data: bytes | UserError) -> Picture:
    return Picture(path, reason=str(data)) if isinstance(data, UserError) else Picture(path, data=data)
