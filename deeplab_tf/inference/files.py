"""Image and video files to files of results: what predict.py does when its model is loaded.

photos/cat.jpg   OUT/cat.png                 labels: class indices, with a palette
                 OUT/cat_overlay.jpg         overlay
                 OUT/cat_probabilities.npy   probabilities: float32 [H, W, K]
photos/walk.mp4  OUT/walk_overlay.mp4        overlay
                 OUT/walk/000000.png         frames: the labels of each frame
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import tqdm

from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import SUFFIXES as IMAGE_SUFFIXES
from deeplab_tf.images.video import SUFFIXES as VIDEO_SUFFIXES
from deeplab_tf.images.video import VideoReader, write_video
from deeplab_tf.inference.pipeline import segment_all
from deeplab_tf.inference.segmenter import Prediction, Segmenter
from deeplab_tf.runtime import files
from deeplab_tf.runtime.progress import show_progress
from deeplab_tf.runtime.threads import map_in_order

OF_IMAGES = ("labels", "overlay", "probabilities")
OF_VIDEOS = ("overlay", "frames")
SAVE = tuple(dict.fromkeys(OF_IMAGES + OF_VIDEOS))
"""What can be saved."""

UNKNOWN_RATE = 25.0
"""Frames per second of the overlay where a video does not say its own."""


class Sources(NamedTuple):
    """What to segment: paths by the stems of their results' names, in alphabetical order.

    Attributes:
        images: of image files.
        videos: of video files.
        of_folder: they were found in a folder, so that one of them may be left out.
    """

    images: dict[str, str]
    videos: dict[str, str]
    of_folder: bool


def find_sources(path: str, out_dir: str) -> Sources:
    """Lists the images and videos that a path means.

    Args:
        path: a file, which is a video if its name ends like one's; or a folder. Of a folder, hidden files are left out,
            and those that end neither like an image nor like a video.
        out_dir: where the results are to go.

    Raises:
        UserError: there are none, two would get results of one name, or results would replace what is to be segmented.
    """
    if not os.path.exists(path):
        raise UserError(f"--images={path} does not exist; name an image, a video, or a folder of them.")
    sources = Sources({}, {}, os.path.isdir(path))
    if not sources.of_folder:
        stem, suffix = os.path.splitext(os.path.basename(path))
        (sources.videos if suffix.lower() in VIDEO_SUFFIXES else sources.images)[stem] = path
        if os.path.realpath(path) == os.path.realpath(os.path.join(out_dir, f"{stem}.png")):
            raise UserError(f"the labels of {path} would replace it; name another folder with --out.")
        return sources
    if os.path.realpath(path) == os.path.realpath(out_dir):
        raise UserError(f"--out={out_dir} is the folder of the images, which answers may replace; name another.")
    for name in sorted(os.listdir(path)):
        stem, suffix = os.path.splitext(name)
        if name.startswith(".") or suffix.lower() not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            continue
        kind = sources.videos if suffix.lower() in VIDEO_SUFFIXES else sources.images
        source = os.path.join(path, name)
        if stem in kind:
            raise UserError(f"{kind[stem]} and {source} would get answers of the same names; rename one.")
        kind[stem] = source
    if not sources.images and not sources.videos:
        raise UserError(
            f"--images={path} holds no image ({', '.join(IMAGE_SUFFIXES)}) and no video ({', '.join(VIDEO_SUFFIXES)})."
        )
    return sources


def check_save(save: Collection[str], sources: Sources) -> None:
    """Refuses what cannot be saved, and to segment for nothing.

    Raises:
        UserError: something unknown, or nothing of the images or the videos.
    """
    unknown = [name for name in save if name not in SAVE]
    if unknown:
        raise UserError(f"--save knows {', '.join(SAVE)}; got {', '.join(unknown)}.")
    for kind, found, possible in (("images", sources.images, OF_IMAGES), ("videos", sources.videos, OF_VIDEOS)):
        if found and not set(save) & set(possible):
            raise UserError(
                f"--save={','.join(save)} saves nothing of {kind} such as {next(iter(found.values()))}: "
                f"of {kind} there are {', '.join(possible)}."
            )


def segment_sources(segmenter: Segmenter, sources: Sources, out_dir: str, save: Collection[str]) -> list[UserError]:
    """Segments all images, then all videos, and says how far it is and what it cannot read.

    Args:
        segmenter: the model.
        sources: what to segment.
        out_dir: an existing folder; results that it has are replaced.
        save: of `SAVE`.

    Returns:
        An error for each file of a folder that was not segmented, or not to its end.

    Raises:
        UserError: a file that was named itself cannot be read, a result cannot be written, or the CRF backend or the
            model's probabilities are missing.
    """
    if "probabilities" in save and not segmenter.has_probabilities:
        raise UserError("this model answers labels only: leave probabilities out of --save, or take a SavedModel.")
    failures: list[UserError] = []

    def report(error: UserError) -> None:
        if not sources.of_folder:
            raise error
        failures.append(error)
        tqdm.tqdm.write(f"warning: {error}", file=sys.stderr)

    if sources.images:
        results = segment_images(segmenter, sources.images, out_dir, save)
        for result in show_progress(results, len(sources.images)):
            if isinstance(result, UserError):
                report(result)
    for stem, path in sources.videos.items():
        try:
            video = VideoReader(path)
        except UserError as error:
            report(error)
            continue
        with video:
            if video.frames_per_second is None and "overlay" in save:
                tqdm.tqdm.write(f"{path} does not say its frame rate: the overlay gets {UNKNOWN_RATE:g} frames/s")
            frames = segment_video(segmenter, video, os.path.join(out_dir, stem), save)
            for _ in show_progress(frames, video.stated_frames, "frame"):
                pass
            try:
                video.check_complete()
            except UserError as error:
                report(error)
    return failures


def segment_images(
    segmenter: Segmenter, images: dict[str, str], out_dir: str, save: Collection[str]
) -> Iterator[UserError | None]:
    """Segments image files; see `segment_all` for what happens at the same time.

    Args:
        segmenter: the model.
        images: paths by the stems of their results' names.
        out_dir: an existing folder.
        save: any of `OF_IMAGES`; others do not concern images.

    Returns:
        For each image, in order, None when its results are written; or why there are none: it cannot be read, or does
        not fit into memory.

    Raises:
        UserError: a result cannot be written, or the CRF backend is missing.
    """
    stems = {path: stem for stem, path in images.items()}

    def write(path: str, prediction: Prediction) -> None:
        write_results(segmenter, prediction, os.path.join(out_dir, stems[path]), save)

    return segment_all(segmenter, ((path, path) for path in stems), write)


def write_results(segmenter: Segmenter, prediction: Prediction, start: str, save: Collection[str]) -> None:
    """Writes what a model predicts for an image.

    Args:
        segmenter: the model.
        prediction: its result; probabilities that it lacks are not written.
        start: of the files' names, in an existing folder.
        save: any of `OF_IMAGES`; others do not concern images.

    Raises:
        UserError: they cannot be written.
    """
    if "labels" in save:
        _write_labels(f"{start}.png", segmenter, prediction)
    if "overlay" in save:
        visualize.save_image(f"{start}_overlay.jpg", segmenter.overlay(prediction))
    if "probabilities" in save and prediction.probabilities is not None:
        array = prediction.probabilities
        files.write_atomically(f"{start}_probabilities.npy", lambda temporary: np.save(temporary, array))


def segment_video(segmenter: Segmenter, video: VideoReader, start: str, save: Collection[str]) -> Iterator[None]:
    """Segments the frames of a video; see `segment_all` for what happens at the same time.

    Args:
        segmenter: the model.
        video: its frames are used up.
        start: of the results' names, in an existing folder.
        save: any of `OF_VIDEOS`; others do not concern videos.

    Yields:
        None, after each frame.

    Raises:
        UserError: a result cannot be written, a frame does not fit into memory, or the CRF backend is missing.
    """
    if "frames" in save:
        files.make_folder(start, "--out")

    def use(name: str, prediction: Prediction) -> np.ndarray | None:
        if "frames" in save:
            _write_labels(os.path.join(start, f"{name}.png"), segmenter, prediction)
        return segmenter.overlay(prediction) if "overlay" in save else None

    frames = ((f"{number:06d}", frame) for number, frame in enumerate(video.frames()))
    overlays = segment_all(segmenter, frames, use)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(overlays))
        add = None
        if "overlay" in save:
            rate = video.frames_per_second or UNKNOWN_RATE
            add = stack.enter_context(write_video(f"{start}_overlay.mp4", video.size, rate))

        def encode(overlay: np.ndarray | UserError | None) -> None:
            if isinstance(overlay, UserError):
                raise UserError(f"{video.path}, frame {overlay}")
            if add is not None and overlay is not None:
                add(overlay)

        # In a thread of its own, because frames are encoded in their order.
        yield from stack.enter_context(contextlib.closing(map_in_order(encode, overlays)))


def _write_labels(path: str, segmenter: Segmenter, prediction: Prediction) -> None:
    visualize.save_palette_png(path, prediction.labels, segmenter.info.palette)
