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

import tqdm

from deeplab_tf.errors import UserError
from deeplab_tf.networks.pretrained import KerasApplication, PublishedFile
from deeplab_tf.runtime import files

_TIMEOUT_SECONDS = 60
_NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


def models_folder() -> str:
    """Where Keras keeps downloaded models: $KERAS_HOME/models, by default ~/.keras/models."""
    return os.path.join(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "models")


def find_or_download(network: KerasApplication, with_top: bool) -> str:
    """Gives the path of a published file.

    Args:
        network: whose file.
        with_top: the fully connected layers are needed; otherwise either file will do.

    Returns:
        A path in Keras' cache, of a file with the published hash.

    Raises:
        UserError: not in the cache and not to be had from the network, or a file with another hash.
    """
    wanted = [network.with_top] if with_top else [network.without_top, network.with_top]
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
    _download(wanted[0], path, network)
    return path


def _download(published: PublishedFile, path: str, network: KerasApplication) -> None:
    # keras.utils.get_file writes to `path` itself, so that a second process finds half a file; it waits for ever
    # on a network that does not answer, and its errors do not have their own class.
    with contextlib.ExitStack() as stack:
        with _explaining_no_network(published, network):
            response = stack.enter_context(urllib.request.urlopen(published.address, timeout=_TIMEOUT_SECONDS))

        def write(temporary: str) -> None:
            size = int(response.headers.get("Content-Length") or 0) or None
            with open(temporary, "wb") as file, tqdm.tqdm.wrapattr(response, "read", size, disable=None) as body:
                with _explaining_no_network(published, network):
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
def _explaining_no_network(published: PublishedFile, network: KerasApplication) -> Iterator[None]:
    try:
        yield
    except _NO_NETWORK as error:
        partial = os.path.join(models_folder(), network.without_top.name)
        ways = [f"download it elsewhere and put it into {models_folder()}"]
        if published != network.without_top and os.path.isfile(partial):
            ways.append(f"start with fc6 and fc7 at random from --init={partial}")
        if network.otherwise:
            ways.append(network.otherwise)
        ways.append("start at random with --init=none")
        raise UserError(
            f"--init=imagenet needs {published.name}, which is not in {models_folder()}, and {published.address} "
            f"cannot be reached ({getattr(error, 'reason', error)}); {', or '.join(ways)}."
        ) from error


def _md5(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
