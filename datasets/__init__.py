"""Raw files -> TFRecord (`convert`) -> tf.data (`pipeline`)."""

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError

from .source import Source
from .sources import cityscapes, coco, folder, pascal_context, person_part, synthetic, voc12

# Each module has the four functions that `datasets.source` describes.
DATASETS = {
    "voc12": voc12,
    "pascal_context": pascal_context,
    "person_part": person_part,
    "cityscapes": cityscapes,
    "coco": coco,
    "folder": folder,
    "synthetic": synthetic,
}


def dataset_info(name: str) -> DatasetInfo:
    """Returns the official classes of a data set that needs no files to know them.

    Raises:
        UserError: an unknown name, or a data set whose classes are in its own files.
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}.")
    return DATASETS[name].info(Source())
