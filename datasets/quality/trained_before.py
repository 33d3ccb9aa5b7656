"""The images that a workdir's network was trained on, as far as the workdir says so."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from deeplab_tf.errors import UserError, in_short

TRAINED_FILE = "trained_images.json.gz"


def trained_hashes(workdir: str) -> set[str]:
    """Returns `overlap.image_hash` of the images that a workdir says its network was trained on.

    Raises:
        UserError: the workdir does not say it.
    """
    path = Path(workdir) / TRAINED_FILE
    try:
        fields = json.loads(gzip.decompress(path.read_bytes()))
        return {str(digest) for part in ("now", "before") for digest in fields[part]["hashes"] or ()}
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected the list of images that were trained on, found none. Give a workdir that train.py wrote."
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the list of images that were trained on, got: {in_short(error)}.") from None
