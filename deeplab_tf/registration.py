"""What Keras needs to know to load a saved model: every class that it may meet in one, by its registered name.

Each class registers itself when its module is imported, and `import deeplab_tf` imports none of them, since they need
TensorFlow. A placeholder stands for each class until then: Keras finds it in its registry, and it imports the modules.
Keras looks nowhere else: it imports the modules that a saved model names from its own packages only. The modules cannot
be imported right behind Keras, because one of them may be what imports it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

PACKAGE = "deeplab_tf"
CLASSES = {
    "evaluation.mean_iou": ("MeanIoU",),
    "layers.atrous": ("AtrousConv2D",),
    "layers.atrous_depthwise": ("AtrousDepthwiseConv2D",),
    "layers.conv_batch_norm": ("ConvBatchNorm", "DepthwiseConvBatchNorm"),
    "layers.dropout": ("SeededDropout",),
    "layers.pooling": ("AveragePool", "MaxPool"),
    "layers.rgb": ("RGBImages",),
    "layers.scales": ("MaximumOverScales", "ScaleImages"),
    "layers.sum": ("Sum",),
    "networks.aspp": ("ASPP",),
    "networks.backbone": ("Normalize",),
    "networks.deeplab": ("DeepLab",),
    "networks.efficientnet": ("EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"),
    "networks.resnet": ("ResNet", "ResNet101", "ResNet50"),
    "networks.vgg": ("VGG16",),
    "training.losses": ("SegmentationLoss",),
    "training.optimizer": ("CaffeSGD", "PerLayerAdam", "Warmup"),
}
"""The registered classes of each module of the package."""


def register() -> None:
    """Puts the placeholders into Keras' registry: at once where Keras is imported, else as soon as it is."""
    if "keras" in sys.modules:
        _register_with(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _AfterKeras())


def import_all() -> None:
    """Imports every module with a registered class."""
    for module in CLASSES:
        importlib.import_module(f"{PACKAGE}.{module}")


class _Placeholder:
    """Stands in Keras' registry for a class whose module has not been imported.

    Args:
        module: of the class.
        name: of the class.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self.__name__ = name

    def from_config(self, config: dict[str, Any]) -> Any:
        """Makes an object of the class."""
        import_all()  # each class takes the place of its placeholder
        return getattr(sys.modules[self._module], self._name).from_config(config)


def _register_with(keras: ModuleType) -> None:
    known = keras.saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names:
            known.setdefault(f"{PACKAGE}>{name}", _Placeholder(f"{PACKAGE}.{module}", name))
    # Models of the old .h5 format are stored under the bare name of their class.
    known.setdefault("DeepLab", known[f"{PACKAGE}>DeepLab"])


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Waits for the import of Keras, and registers the placeholders at its end.

    It stays until then: other programs look for Keras without importing it (`importlib.util.find_spec`), and an import
    can fail.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds Keras as the other finders do."""
        if fullname != "keras":
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register_with(module)
                sys.meta_path.remove(self)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
