"""What --images means: paths of images and videos, and the names of their results.

photos/cat.jpg        a file                       OUT/cat...
photos                a folder                     OUT/cat..., with its sub-folders OUT/sub/cat...
'photos/*/*.jpg'      a glob                       OUT/sub/cat..., from the first wildcard on
list.txt              a file of paths, one a line  OUT/sub/cat..., from the folder on that all have in common
"""

from __future__ import annotations

import collections
import dataclasses
import glob
import os
import re
from collections.abc import Iterator, Sequence

from deeplab_tf.errors import UserError
from deeplab_tf.images.files import READABLE_SUFFIXES as IMAGE_SUFFIXES
from deeplab_tf.images.video import SUFFIXES as VIDEO_SUFFIXES
from deeplab_tf.runtime.written import Written

LIST_SUFFIX = ".txt"
"""Of a file of paths."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """What to segment: paths by the names of their results, which may have folders in them, in alphabetical order.

    Attributes:
        images: of image files.
        videos: of video files.
        of_folder: there may be several, so that one of them may be left out.
        left_out: what was found beside them, such as "ending .xml", and how often.
    """

    images: dict[str, str]
    videos: dict[str, str]
    of_folder: bool
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def count(self) -> int:
        """How many files there are to segment."""
        return len(self.images) + len(self.videos)

    def describe_left_out(self) -> str:
        """Says what was left out, "" where nothing was."""
        found = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count} {what}" for what, count in found)


def find_sources(images: str | Sequence[str], out_dir: str, recursive: bool = False) -> Sources:
    """Lists the images and videos that one or several paths mean.

    Args:
        images: files, folders, globs and lists, see the module. A file that is named is a video if its name ends like
            one's, a list if it ends in .txt, and else an image. Of folders and globs, hidden files are left out, and
            so are, counted, results of predict.py and files that end neither like an image nor like a video.
        out_dir: where the results are to go.
        recursive: search the folders inside folders too; not `out_dir`, and no symbolic links to folders.

    Raises:
        UserError: there are none, two would get results of one name, or results would replace what is to be segmented.
    """
    paths = [images] if isinstance(images, str) else list(images)
    left_out: collections.Counter[str] = collections.Counter()
    single = len(paths) == 1 and os.path.isfile(paths[0]) and not _is_list(paths[0])
    found: list[tuple[str, str]] = []
    for path in paths:
        found += _found_in(path, out_dir, recursive, left_out)
    sources = Sources({}, {}, not single, left_out)
    for name, source in sorted(found):
        kind = sources.videos if _suffix(source) in VIDEO_SUFFIXES else sources.images
        if name not in kind:
            kind[name] = source
        elif os.path.realpath(kind[name]) == os.path.realpath(source):
            left_out["named twice"] += 1
        else:
            raise UserError(
                f"{kind[name]} and {source} would get results of the same names; rename one."
                + (" Or name the folder above them, with --recursive." if len(paths) > 1 else "")
            )
    if not sources.count:
        also = f" Left out: {sources.describe_left_out()}." if left_out else ""
        raise UserError(
            f"--images={','.join(paths)} holds no image ({', '.join(IMAGE_SUFFIXES)}) and no video"
            f" ({', '.join(VIDEO_SUFFIXES)}).{also}"
        )
    _refuse_replacing(sources, out_dir)
    return sources


def _found_in(
    path: str, out_dir: str, recursive: bool, left_out: collections.Counter[str]
) -> Iterator[tuple[str, str]]:
    """Yields (name of the results, path) for what one path of --images means."""
    if os.path.isdir(path):
        if os.path.realpath(path) == os.path.realpath(out_dir):
            raise UserError(
                f"--out={out_dir} is the folder of the images, and results could replace them; name another."
            )
        for source in _in_folder(path, os.path.realpath(out_dir), recursive, left_out):
            yield _name(source, path), source
    elif os.path.lexists(path):
        if not _is_list(path):
            yield _name(path, os.path.dirname(path)), path
            return
        listed = _in_list(path)
        root = os.path.commonpath([os.path.dirname(os.path.abspath(source)) for source in listed])
        for source in listed:
            yield _name(os.path.abspath(source), root), source
    elif glob.has_magic(path):
        root = _folder_before_wildcards(path)
        sources = [source for source in sorted(glob.glob(path, recursive=True)) if not os.path.isdir(source)]
        results = {folder: Written(folder, "predict") for folder in {os.path.dirname(source) for source in sources}}
        for source in sources:
            if _counts(source, left_out, results[os.path.dirname(source)]):
                yield _name(source, root), source
    elif re.match(r"[a-z]+://", path):
        raise UserError(f"--images={path} is an address; download the image and name the file.")
    else:
        raise UserError(
            f"--images={path} does not exist; name an image, a video, a folder of them, a pattern such as"
            f" 'photos/*/*.jpg', or a {LIST_SUFFIX} file with one path per line."
        )


def _in_folder(folder: str, out_dir: str, recursive: bool, left_out: collections.Counter[str]) -> Iterator[str]:
    """Yields what is in a folder and, if `recursive`, in those inside it."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: expected a readable folder, got: {error.strerror}.") from None
    results = Written(folder, "predict")
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(path) and (recursive or _suffix(path) not in IMAGE_SUFFIXES + VIDEO_SUFFIXES):
            if not recursive:
                left_out["sub-folder(s), which --recursive takes"] += 1
            elif os.path.islink(path):
                left_out["symbolic link(s) to folders"] += 1
            elif os.path.realpath(path) != out_dir:
                yield from _in_folder(path, out_dir, recursive, left_out)
        elif _counts(path, left_out, results):
            yield path


def _counts(path: str, left_out: collections.Counter[str], results: Written) -> bool:
    """Says whether a file ends like an image or a video and is not a result itself, and counts it if not."""
    suffix = _suffix(path)
    if results.wrote(os.path.basename(path)):
        left_out["result(s) of predict.py"] += 1
        return False
    if suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        return True
    left_out[f"ending {suffix}" if suffix else "without an ending"] += 1
    return False


def _in_list(path: str) -> list[str]:
    """Reads a list of paths, relative to the working directory, or to the list where there is no such file."""
    try:
        # Names may hold bytes that are not UTF-8; os.fsdecode would give the same text.
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except OSError as error:
        raise UserError(f"{path}: expected a readable list of paths, got: {error.strerror}.") from None
    listed = [line for line in lines if line.strip()]
    if not listed or any("\0" in line for line in listed):
        raise UserError(
            f"{path}: expected a list of images, one path per line, got {'other data' if listed else 'none'}."
        )
    folder = os.path.dirname(path)
    return [
        line if os.path.lexists(line) or not os.path.lexists(os.path.join(folder, line)) else os.path.join(folder, line)
        for line in listed
    ]


def _folder_before_wildcards(pattern: str) -> str:
    parts: list[str] = []
    for part in pattern.split(os.sep)[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return os.sep.join(parts) or (os.sep if pattern.startswith(os.sep) else "")


def _name(path: str, root: str) -> str:
    """Returns the name of the results: the path from the root on, without its ending."""
    return os.path.splitext(os.path.relpath(path, root or os.curdir))[0]


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_list(path: str) -> bool:
    return _suffix(path) == LIST_SUFFIX


def _refuse_replacing(sources: Sources, out_dir: str) -> None:
    """Refuses sources that the labels of one of them would replace, whatever else may be replaced."""
    folders: dict[str, str] = {}

    def real(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], name)

    paths = {real(path): path for path in (*sources.images.values(), *sources.videos.values())}
    for name in sources.images:
        replaced = paths.get(real(os.path.join(out_dir, f"{name}.png")))
        if replaced is not None:
            raise UserError(f"the labels of {sources.images[name]} would replace {_it(replaced, sources.images[name])}")


def _it(replaced: str, source: str) -> str:
    return f"{'it' if replaced == source else replaced}; name another folder with --out."
