"""The networks: backbones, atrous spatial pyramid pooling, several scales (Sec. 3.1, 3.2).

A new backbone is one file beside this one and one line in `BACKBONES`; `backbone.py` says what the file holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeplab_tf.networks.backbone import Backbone


class _Backbones(MutableMapping[str, "type[Backbone]"]):
    """Maps names to classes. The names are known at once; a class, and with it TensorFlow, is imported on first use.

    Args:
        places: of each name, "module.Class" in this package.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self._entries: dict[str, str | type[Backbone]] = dict(places)

    def __getitem__(self, name: str) -> type[Backbone]:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, class_name = entry.partition(".")
            entry = self._entries[name] = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
        return entry

    def __setitem__(self, name: str, backbone: type[Backbone]) -> None:
        self._entries[name] = backbone

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:  # without the import that `Mapping` would do
        return name in self._entries


BACKBONES: MutableMapping[str, type[Backbone]] = _Backbones(
    {
        "vgg16": "vgg.VGG16",
        "resnet50": "resnet.ResNet50",
        "resnet101": "resnet.ResNet101",
        "efficientnet_lite0": "efficientnet.EfficientNetLite0",
        "efficientnet_lite1": "efficientnet.EfficientNetLite1",
        "efficientnet_lite2": "efficientnet.EfficientNetLite2",
    }
)
"""What `model.backbone` may be."""
