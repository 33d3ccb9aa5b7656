"""Image and video files to files of results: what predict.py does when its model is loaded.

What is written of images: `deeplab_tf.images.results`. Of videos:

photos/walk.mp4  OUT/walk_overlay.mp4        overlay
                 OUT/walk_legend.mp4         legend
                 OUT/walk/000000.png         frames: the labels of each frame
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Generator, Sequence

import numpy as np
import tqdm

from deeplab_tf.errors import ItemError, UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import read_pixels
from deeplab_tf.images.results import (
    OF_ALL,
    OF_IMAGES,
    OF_VIDEOS,
    SAVE,
    Results,
    files_of,
    labels_of_names,
    with_legend,
)
from deeplab_tf.images.results import Segmented as ImageResult
from deeplab_tf.images.sources import Sources, find_sources
from deeplab_tf.images.video import VideoReader, write_video
from deeplab_tf.inference.pipeline import Failure, Segmented, segment_all, segment_items
from deeplab_tf.inference.segmenter import Prediction, Segmenter
from deeplab_tf.runtime import files
from deeplab_tf.runtime.progress import show_progress
from deeplab_tf.runtime.threads import map_in_order
from deeplab_tf.runtime.written import Written

__all__ = ["Notes", "check_save", "find_sources", "planned_files", "segment_images", "segment_sources", "segment_video"]

UNKNOWN_RATE = 25.0
"""Frames per second of the overlay where a video does not say its own."""

# What is saved of a video as a video.
_VIDEOS = ("overlay", "legend")


class Notes:
    """What was assumed of images: the first few notes are printed at once, the others counted."""

    SHOWN = 5

    def __init__(self) -> None:
        self._count = 0
        self._guard = threading.Lock()

    def add(self, note: str) -> None:
        """Takes a note; for any thread."""
        with self._guard:
            self._count += 1
            if self._count <= self.SHOWN:
                tqdm.tqdm.write(f"note: {note}", file=sys.stderr)

    def close(self) -> None:
        """Says how many notes were not printed."""
        if self._count > self.SHOWN:
            tqdm.tqdm.write(f"note: {self._count - self.SHOWN} more notes are not shown.", file=sys.stderr)


def check_save(save: Collection[str], sources: Sources) -> None:
    """Refuses what cannot be saved, and to segment for nothing.

    Raises:
        UserError: something unknown, or nothing of the images or the videos.
    """
    unknown = [name for name in save if name not in SAVE]
    if unknown:
        raise UserError(f"--save knows {', '.join(SAVE)}; got {', '.join(unknown)}.")
    for kind, found, possible in (("images", sources.images, OF_IMAGES), ("videos", sources.videos, tuple(OF_VIDEOS))):
        if found and not set(save) & set(possible):
            raise UserError(
                f"--save={','.join(save)} saves nothing of {kind} such as {next(iter(found.values()))}: "
                f"of {kind} there are {', '.join(possible)}."
            )


def planned_files(sources: Sources, out_dir: str, save: Collection[str]) -> list[str]:
    """Lists the files of OUT that will be written, and the frames that are there already, relative to OUT.

    Raises:
        UserError: two results would be one file, as `a_mask.png` would be of a.jpg and of a_mask.jpg.
    """
    owners: dict[str, str] = {}
    planned = [(file, path) for name, path in sources.images.items() for file, _ in files_of(name, save)]
    planned += [(table.file, "the table") for kind, table in OF_ALL.items() if kind in save and sources.images]
    for kind in _videos_of(save):
        planned += [(name + OF_VIDEOS[kind][0], path) for name, path in sources.videos.items()]
    for file, path in planned:
        if owners.setdefault(file, path) != path:
            raise UserError(f"{owners[file]} and {path} would both have the result {file}; rename one.")
    frames: list[str] = []
    if "frames" in save:
        for name in sources.videos:
            with contextlib.suppress(OSError):
                there = os.listdir(os.path.join(out_dir, name))
                frames += [f"{name}/{file}" for file in there if re.fullmatch(r"\d{6,}\.png", file)]
    return [*owners, *frames]


def segment_sources(
    segmenter: Segmenter,
    sources: Sources,
    out_dir: str,
    save: Collection[str],
    *,
    classes: Sequence[str] = (),
    batch_size: int = 1,
    written: Written | None = None,
) -> list[UserError]:
    """Segments all images, then all videos, and says how far it is, what it assumes and what it cannot read.

    Args:
        segmenter: the model.
        sources: what to segment.
        out_dir: an existing folder; results that it has are replaced.
        save: of `SAVE`.
        classes: the names of those that cutouts, masks and polygons are about; see `labels_of_names`.
        batch_size: see `segment_items`.
        written: gets to know what is written; None for not.

    Returns:
        An error for each file of several that was not segmented, not to its end, or not saved in all forms.

    Raises:
        UserError: a file that was named alone cannot be read, a result cannot be written, or the CRF backend or the
            model's probabilities are missing.
    """
    if "probabilities" in save and not segmenter.has_probabilities:
        raise UserError("this model returns labels only: leave probabilities out of --save, or take a SavedModel.")
    labels = labels_of_names(classes, segmenter.info)
    failures: list[UserError] = []

    def report(error: UserError) -> None:
        if not sources.of_folder:
            raise error
        failures.append(error)
        tqdm.tqdm.write(f"warning: {error}", file=sys.stderr)

    results = Results(out_dir, save, written)
    if sources.images:
        try:
            segmented = segment_images(segmenter, sources.images, results, labels, batch_size)
            with contextlib.closing(segmented):
                for result in show_progress(segmented, len(sources.images)):
                    if isinstance(result, UserError):
                        report(result)
        finally:  # what is in the tables took its time
            results.write_tables(sources.images, segmenter.info)
    for name, path in sources.videos.items():
        try:
            video = VideoReader(path)
        except UserError as error:
            report(error)
            continue
        with video:
            if video.frames_per_second is None and _videos_of(save):
                tqdm.tqdm.write(f"{path} does not declare its frame rate: the overlay gets {UNKNOWN_RATE:g} frames/s")
            try:
                with contextlib.closing(segment_video(segmenter, video, results, name)) as frames:
                    for _ in show_progress(frames, video.stated_frames, "frame"):
                        pass
            except ItemError as error:
                report(error)
                continue
            try:
                video.check_complete()
            except UserError as error:
                report(error)
    return failures


def segment_images(
    segmenter: Segmenter,
    images: dict[str, str],
    results: Results,
    classes: tuple[int, ...] = (),
    batch_size: int = 1,
) -> Generator[UserError | None, None, None]:
    """Segments image files; see `segment_items` for what happens at the same time.

    Args:
        segmenter: the model.
        images: paths by the names of their results.
        results: writes them.
        classes: labels that cutouts, masks and polygons are about.
        batch_size: see `segment_items`.

    Yields:
        For each image, in order, None when its results are written; or what is missing and why: it cannot be read, does
        not fit into memory, or one of its results cannot be written.

    Raises:
        UserError: nothing can be written, or the CRF backend is missing.
    """
    notes = Notes()

    def read(item: tuple[str, str]) -> np.ndarray:
        return read_pixels(item[1], notes.add)

    def write(item: tuple[str, str], segmented: Segmented) -> None:
        results.write(item[0], image_result(item[1], segmented.prediction, classes))

    found = segment_items(segmenter, images.items(), read, write, batch_size=batch_size)
    with contextlib.closing(found):
        for result in found:
            if not isinstance(result, Failure):
                yield None
            else:
                named = f"{result.item[1]}: {result.error}" if result.is_read else str(result.error)
                yield UserError(named)
    notes.close()


def image_result(path: str, prediction: Prediction, classes: tuple[int, ...] = ()) -> ImageResult:
    """Returns what is written of a prediction for an image."""
    image, labels, probabilities, info = prediction
    return ImageResult(path, image, labels, probabilities, info, classes)


def segment_video(segmenter: Segmenter, video: VideoReader, results: Results, name: str) -> Generator[None, None, None]:
    """Segments the frames of a video; see `segment_all` for what happens at the same time.

    Args:
        segmenter: the model.
        video: its frames are used up.
        results: where they go; of what is saved, `OF_VIDEOS` concern videos.
        name: of the results.

    Yields:
        None, after each frame.

    Raises:
        ItemError: a frame does not fit into memory, or a result of this name cannot be written.
        UserError: nothing can be written, or the CRF backend is missing.
    """
    start = os.path.join(results.out_dir, name)
    files.make_folder_of(os.path.join(start, "frame") if "frames" in results.save else start)

    info = segmenter.info
    kinds = _videos_of(results.save)
    # All classes, because those of later frames are not known yet.
    painted = [label for label in range(info.num_classes) if label != info.background_label]

    def draw(overlay: np.ndarray) -> dict[str, np.ndarray]:
        return {kind: overlay if kind == "overlay" else with_legend(overlay, painted, info) for kind in kinds}

    def use(frame: str, prediction: Prediction) -> dict[str, np.ndarray]:
        if "frames" in results.save:
            file = f"{name}/{frame}.png"
            with results.listing(file):
                path = os.path.join(results.out_dir, file)
                visualize.save_palette_png(path, prediction.labels, info.palette)
        return draw(segmenter.overlay(prediction)) if kinds else {}

    frames = ((f"{number:06d}", frame) for number, frame in enumerate(video.frames()))
    drawn = segment_all(segmenter, frames, use)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(drawn))
        add: dict[str, Callable[[np.ndarray], None]] = {}
        for kind, blank in draw(np.zeros((*video.size, 3), np.uint8)).items():
            ending, rate = OF_VIDEOS[kind][0], video.frames_per_second or UNKNOWN_RATE
            stack.enter_context(results.listing(f"{name}{ending}"))
            add[kind] = stack.enter_context(write_video(f"{start}{ending}", blank.shape[:2], rate))

        def encode(pictures: dict[str, np.ndarray] | UserError) -> None:
            if isinstance(pictures, UserError):
                raise ItemError(f"{video.path}, frame {pictures}")
            for kind, picture in pictures.items():
                add[kind](picture)

        # In a thread of its own, because frames are encoded in their order.
        yield from stack.enter_context(contextlib.closing(map_in_order(encode, drawn)))


def _videos_of(save: Collection[str]) -> list[str]:
    """Returns which videos are written of a video."""
    return [kind for kind in _VIDEOS if kind in save]
