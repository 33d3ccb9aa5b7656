"""The ImageNet files that Keras publishes: found in Keras' cache, or downloaded into it. Their hashes are checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import tqdm

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

_SERVER = "https://storage.googleapis.com/tensorflow/keras-applications"
_TIMEOUT_SECONDS = 60
_NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


class PublishedFile(NamedTuple):
    """A file of keras.applications."""

    address: str
    md5: str
    """As in Keras' own source. It tells a damaged or another file, not a forged one."""

    @property
    def name(self) -> str:
        """In Keras' cache too."""
        return self.address.rpartition("/")[2]


def _published(folder: str, network: str, md5: str, top: bool) -> PublishedFile:
    name = f"{network}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5"
    return PublishedFile(f"{_SERVER}/{folder}/{name}", md5)


WITH_TOP = {
    "vgg16": _published("vgg16", "vgg16", "64373286793e3c8b2b4e3219cbf3544b", top=True),
    "resnet50": _published("resnet", "resnet50", "2cb95161c43110f7111970584f804107", top=True),
    "resnet101": _published("resnet", "resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", top=True),
}
"""With the fully connected layers."""
WITHOUT_TOP = {
    "vgg16": _published("vgg16", "vgg16", "6d6bbae143d832006294945121d1f1fc", top=False),
    "resnet50": _published("resnet", "resnet50", "4d473c1dd8becc155b73f8504c6f6626", top=False),
    "resnet101": _published("resnet", "resnet101", "88cf7a10940856eca736dc7b7e228a21", top=False),
}


def models_folder() -> str:
    """Where Keras keeps downloaded models: $KERAS_HOME/models, by default ~/.keras/models."""
    return os.path.join(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "models")


def find_or_download(backbone: str, with_top: bool) -> str:
    """Gives the path of a published file.

    Args:
        backbone: vgg16, resnet50 or resnet101.
        with_top: the fully connected layers are needed; otherwise either file will do.

    Returns:
        A path in Keras' cache, of a file with the published hash.

    Raises:
        UserError: not in the cache and not to be had from the network, or a file with another hash.
    """
    wanted = [WITH_TOP[backbone]] if with_top else [WITHOUT_TOP[backbone], WITH_TOP[backbone]]
    for published in wanted:
        path = os.path.join(models_folder(), published.name)
        if os.path.isfile(path):
            found = _md5(path)
            if found != published.md5:
                raise UserError(
                    f"{path} is not the file that Keras 3 publishes under this name (MD5 {found}, expected "
                    f"{published.md5}): remove it to download it again, or, if you know it to be good, "
                    f"name it with --init={path}."
                )
            return path
    path = os.path.join(models_folder(), wanted[0].name)
    _download(wanted[0], path, backbone)
    return path


def _download(published: PublishedFile, path: str, backbone: str) -> None:
    # keras.utils.get_file writes to `path` itself, so that a second process finds half a file; it waits for ever
    # on a network that does not answer, and its errors have no class of their own.
    with contextlib.ExitStack() as stack:
        with _explaining_no_network(published, backbone):
            response = stack.enter_context(urllib.request.urlopen(published.address, timeout=_TIMEOUT_SECONDS))

        def write(temporary: str) -> None:
            size = int(response.headers.get("Content-Length") or 0) or None
            with open(temporary, "wb") as file, tqdm.tqdm.wrapattr(response, "read", size, disable=None) as body:
                with _explaining_no_network(published, backbone):
                    shutil.copyfileobj(body, file)
            found = _md5(temporary)
            if found != published.md5:
                raise UserError(
                    f"what came from {published.address} is not the file that Keras publishes (MD5 {found}, expected "
                    f"{published.md5}); try again, or put the file into {models_folder()} yourself."
                )

        print(f"downloading {published.address} to {path}", flush=True)
        files.make_folder(models_folder(), "KERAS_HOME/models")
        files.write_atomically(path, write)


@contextlib.contextmanager
def _explaining_no_network(published: PublishedFile, backbone: str) -> Iterator[None]:
    try:
        yield
    except _NO_NETWORK as error:
        partial = os.path.join(models_folder(), WITHOUT_TOP[backbone].name)
        ways = [f"download it elsewhere and put it into {models_folder()}"]
        if published != WITHOUT_TOP[backbone] and os.path.isfile(partial):
            ways.append(f"start with fc6 and fc7 at random from --init={partial}")
        if backbone == "vgg16":
            ways.append("start from --init=hed, which is installed (with the solver for fresh heads, see the README)")
        ways.append("start at random with --init=none")
        raise UserError(
            f"--init=imagenet needs {published.name}, which is not in {models_folder()}, and {published.address} "
            f"cannot be reached ({getattr(error, 'reason', error)}); {', or '.join(ways)}."
        ) from error


def _md5(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
