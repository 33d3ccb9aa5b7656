"""What a backbone states about itself besides its layers; the rest of the project reads it here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from deeplab_tf.networks.pretrained import InstalledFile, KerasApplication


class Backbone(keras.layers.Layer):
    """The part of a network that turns images into features: the base class of VGG-16, ResNet and EfficientNet.

    A subclass defines the attributes below, `normalize` and `call`: [B, H, W, 3] from `normalize` in the compute dtype
    -> [B, h, w, channels], h = (H - 1)/output_stride + 1 for clean sizes. It can be built without arguments. Its layers
    are attributes of their names, each name unlike any other of the network. Arguments beyond those below are kept
    under their names and added to `get_config`.

    Attributes:
        mean_rgb: the colour that `normalize` turns into zeros, levels 0..255; images are padded with it.
        channels: of the features.
        output_strides: that `restride` may give it; empty where it cannot be re-strided.
        layer_by_layer: whether `call` is made of layers alone, no TensorFlow operations between them. A functional
            model then shows them, with their shapes, and can be cut at each.
        options: fields of `ModelConfig` that its constructor takes by their names, besides those of every backbone.
        imagenet: where `--init=imagenet` finds its weights; None where nobody publishes any.

    Args:
        output_stride: input pixels per cell of the features.
        implementation: of its atrous convolutions, see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.
    """

    mean_rgb: ClassVar[tuple[float, float, float]]
    channels: ClassVar[int]
    output_strides: ClassVar[tuple[int, ...]] = ()
    layer_by_layer: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()
    imagenet: ClassVar[KerasApplication | InstalledFile | None] = None

    def __init__(self, output_stride: int = 8, implementation: str = "deinterlace", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_stride = output_stride
        self.implementation = implementation

    @staticmethod
    def normalize(images: tf.Tensor) -> tf.Tensor:
        """Turns images, float32 [B, H, W, 3] RGB 0..255, into what the layers were trained on."""
        raise NotImplementedError

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Returns the trainable variables by the groups that `frozen_layers` and `fresh_layers` name."""
        return groups_by_layer(self.trainable_variables)

    def connect(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Does what `call` does with a symbolic tensor, layer by layer where `layer_by_layer` says that it can."""
        if not self.layer_by_layer:
            return self(x)
        with keras.name_scope(self.name):
            features = self.call(x)
        self.built = True
        return features

    def restrided(self, output_stride: int) -> Backbone:
        """Returns the same backbone, without weights yet, that computes more cells of the same sums (see `restride`).

        Args:
            output_stride: one of `output_strides`, not above its own.
        """
        return type(self).from_config(self.get_config() | {"output_stride": output_stride})

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        return config | {"output_stride": self.output_stride, "implementation": self.implementation}

    def get_build_config(self) -> None:
        """Says that a layer made by `from_config` waits for its first call: its variables are named by then."""

    def _add(self, layer: keras.layers.Layer) -> None:
        setattr(self, layer.name, layer)


def groups_by_layer(variables: Iterable[keras.Variable]) -> dict[str, list[keras.Variable]]:
    """Puts variables together whose layers have the same name before "_".

    conv1_1 and conv1_2 are conv1, the branches of a residual block res2a, those of ASPP fc6.
    """
    groups: dict[str, list[keras.Variable]] = {}
    for variable in variables:
        groups.setdefault(variable.path.split("/")[-2].split("_")[0], []).append(variable)
    return groups


@keras.saving.register_keras_serializable(package="deeplab_tf")
class Normalize(keras.layers.Layer):
    """A backbone's `normalize` as a layer, in float32.

    Args:
        backbone: the class.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, backbone: type[Backbone], **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.backbone = backbone

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, H, W, 3], see `Backbone.normalize`."""
        return self.backbone.normalize(images)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; the backbone by its registered name."""
        return super().get_config() | {"backbone": keras.saving.get_registered_name(self.backbone)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Normalize:
        """Makes the layer that `get_config` describes.

        Raises:
            ValueError: nobody has registered the backbone.
        """
        name = config["backbone"]
        backbone = keras.saving.get_registered_object(name)
        if backbone is None:
            raise ValueError(f"the backbone {name} is not registered: see keras.saving.register_keras_serializable.")
        return cls(**config | {"backbone": backbone})
