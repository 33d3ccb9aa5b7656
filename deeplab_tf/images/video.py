"""Videos, read and written by OpenCV's FFmpeg."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv")

# What a file says of its length is exact in MP4, MOV and AVI, an estimate elsewhere: 4 % too much was seen.
_LEAST_READ = 0.9
# Frames/s; more are the clock of a stream and not its rate.
_HIGHEST_RATE = 1000.0
_CODEC = "mp4v"
_CONVERT = "See whether it plays, and convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"

# FFmpeg's messages would stand around the one line that matters. The variable is read when a first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoReader:
    """An open video file; to be used in a `with`.

    Attributes:
        path: the file.
        frames_per_second: the mean rate, or None where the file does not say.
        stated_frames: how many frames the file says it has, or None. Many containers only give an estimate.
        num_read: how many were taken so far.
        size: (H, W) of the first frame, and so of all that are given.
    """

    def __init__(self, path: str) -> None:
        """Opens a video and decodes its first frame.

        Raises:
            UserError: OpenCV cannot.
        """
        self.path = path
        self.num_read = 0
        self._capture = _open(path)
        # Frames may be read in another thread, which is not to find the file closed in the middle of one.
        self._lock = threading.Lock()
        if not self._capture.isOpened():
            raise UserError(
                f"{path}: expected a video, OpenCV cannot open it: it is damaged, cut off, or of an unknown kind. "
                + _CONVERT
            )
        first = self._read()
        if first is None:
            codec = self._codec()
            self._capture.release()
            raise UserError(f"{path}: expected frames, OpenCV can decode none of them (codec {codec}). {_CONVERT}")
        self._first: np.ndarray | None = first
        self.size: tuple[int, int] = first.shape[:2]
        rate, count = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.frames_per_second = rate if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE else None
        self.stated_frames = int(count) if math.isfinite(count) and count > 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._capture.release()

    def frames(self) -> Iterator[np.ndarray]:
        """Reads the frames, once.

        Yields:
            uint8 [H, W, 3], RGB, upright. Where the size changes in the middle, later frames are scaled to the first
            one's.
        """
        frame, self._first = self._first, None
        while frame is not None:
            if frame.shape[:2] != self.size:
                frame = cv2.resize(frame, self.size[::-1], interpolation=cv2.INTER_AREA)
            self.num_read += 1
            yield np.ascontiguousarray(frame[..., ::-1])
            frame = self._read()

    def check_complete(self) -> None:
        """Compares, after the last frame, what came with what the file says it has.

        Raises:
            UserError: it ended long before that.
        """
        if self.stated_frames is not None and self.num_read < _LEAST_READ * self.stated_frames:
            raise UserError(
                f"{self.path}: expected about {self.stated_frames} frames, the video breaks off after {self.num_read}: "
                "it is cut off or damaged. The frames before that are segmented; copy the file again for the others."
            )

    def _read(self) -> np.ndarray | None:
        with self._lock:
            read, frame = self._capture.read()
        return frame if read else None

    def _codec(self) -> str:
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        letters = "".join(chr(code >> shift & 0x7F) for shift in (0, 8, 16, 24))
        return letters if letters.isprintable() and letters.strip() else "unknown"


@contextlib.contextmanager
def write_video(path: str, size: tuple[int, int], frames_per_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an MP4 file (MPEG-4 Part 2, no sound). It gets its name when it is complete.

    Args:
        path: ends in .mp4, in an existing folder.
        size: (H, W) of the frames. Where one is odd, a row or column at the end is repeated, as the codec wants.
        frames_per_second: > 0.

    Yields:
        A function that adds a frame uint8 [H, W, 3], RGB; for one thread at a time.

    Raises:
        UserError: it cannot be written.
    """
    height, width = size
    bottom, right = height % 2, width % 2
    num_added = 0
    with files.complete_or_absent(path) as temporary:
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        writer = cv2.VideoWriter(
            os.path.abspath(temporary), cv2.CAP_FFMPEG, codec, frames_per_second, (width + right, height + bottom)
        )
        if not writer.isOpened():
            raise UserError(
                f"cannot write {path}: OpenCV cannot begin an MPEG-4 video of {width}x{height} there. Check the folder "
                "and the free space, or install OpenCV with FFmpeg: pip install opencv-python-headless"
            )

        def add(frame: np.ndarray) -> None:
            nonlocal num_added
            if frame.dtype != np.uint8 or frame.shape != (height, width, 3):
                raise ValueError(f"expected frames uint8 {[height, width, 3]}, got {frame.dtype} {list(frame.shape)}.")
            padded = cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
            num_added += 1

        try:
            yield add
        finally:
            writer.release()
        # OpenCV does not say when the disk is full.
        written = _open(temporary)
        complete = written.isOpened() and int(written.get(cv2.CAP_PROP_FRAME_COUNT)) == num_added
        written.release()
        if not complete:
            raise UserError(f"cannot write {path}: not all frames are in the file. Check the free space and repeat.")


def _open(path: str) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        # Only a path from the root is never taken for an address, as a:b.mp4 would be; and other readers than FFmpeg
        # would take a number in it for one of a series of pictures.
        return cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
