"""DeepLabv2: normalisation, backbone, head, and the maximum over the scales of the input (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.config import ModelConfig
from deeplab_tf.experiments import experiment_config
from deeplab_tf.layers.resize import size_multiple
from deeplab_tf.layers.rgb import RGBImages, as_images, check_levels, check_shape
from deeplab_tf.layers.scales import MaximumOverScales, ScaleImages, resize_to_scale_1, scale_images
from deeplab_tf.networks import BACKBONES, steps
from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.backbone import Backbone, Normalize
from deeplab_tf.networks.update import LossOfScales, refuse_frozen_weights


@keras.saving.register_keras_serializable(package="deeplab_tf")
class DeepLab(keras.Model):
    """A DeepLabv2 network.

    Input: RGB levels 0..255 [B, H, W, 3], any type, H and W of the form `size_multiple`*k + 1 (other sizes work, with
    the rounding of Caffe's layers). Output: float32 logits [B, h, w, K], h = (H - 1)/output_stride + 1, the
    maximum over the scales. The weights are shared between the scales.

    It is a functional model, of the layers that the backbone and the head are made of: `model.input`,
    `model.get_layer("conv5_3").output` and so on make other models, of the same weights. At several scales the output
    of a layer is the one at the first of them.

    Args:
        backbone: from images to features.
        head: from features and dropout seeds to float32 scores.
        scales: of the input; (1.0,) for a single scale, (1.0, 0.75, 0.5) for the paper's multi-scale network.
        name: of the model, and what the paths of its variables begin with.
        **kwargs: as for `keras.Model`.
    """

    def __init__(
        self, backbone: Backbone, head: ASPP, scales: Sequence[float], name: str = "deeplab", **kwargs: Any
    ) -> None:
        scales = tuple(scales)
        images = keras.Input((None, None, 3), name="images")
        with keras.name_scope(name):
            scores = _connect(backbone, head, scales, images)
        super().__init__(inputs=images, outputs=scores, name=name, **kwargs)
        self.dtype_policy = backbone.dtype_policy  # in float16, `compile` scales the loss
        self.autocast = False  # the layers cast; the images stay as they are
        self.input_spec = None  # `check_shape` says more
        self.supports_jit = False  # train.py does not compile by XLA either, unless it is told to
        self.backbone = backbone
        self.head = head
        self.scales = scales

    @property
    def output_stride(self) -> int:
        """Input pixels per score-map cell at scale 1."""
        return self.backbone.output_stride

    @property
    def mean_rgb(self) -> tuple[float, float, float]:
        """What images are padded with, levels 0..255: the normalisation makes it zeros."""
        return self.backbone.mean_rgb

    @property
    def size_multiple(self) -> int:
        """Inputs of `size_multiple`*k + 1 pixels meet no rounding anywhere."""
        return size_multiple(self.output_stride, self.scales)

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Returns the trainable variables in groups: the backbone's, then the head's."""
        return self.backbone.variable_groups() | self.head.variable_groups()

    def score_maps(
        self, images: tf.Tensor, dropout_seeds: tf.Tensor | None = None, align_corners: bool = True
    ) -> list[tf.Tensor]:
        """Returns each scale's scores at their own size.

        Args:
            images: RGB 0..255 [B, H, W, 3].
            dropout_seeds: int32 [B, 2] for training, None for no dropout.
            align_corners: how the images are scaled; False for networks that others trained so.

        Returns:
            One float32 [B, h_s, w_s, K] per scale, h_s = (h - 1)*scale + 1; without aligned corners what the
            network makes of floor(H * scale) pixels, at least 1.
        """
        images = as_images(images)
        maps = []
        for index, scale in enumerate(self.scales):
            seeds = dropout_seeds
            if seeds is not None and len(self.scales) > 1:
                seeds = tf.map_fn(
                    lambda seed, index=index: tf.random.experimental.stateless_fold_in(seed, index), seeds
                )
            x = self.backbone.normalize(scale_images(images, scale, align_corners))
            features = self.backbone(x)  # [B, h_s, w_s, C]
            maps.append(self.head(features, seeds))
        return maps

    def fuse(
        self, score_maps: Sequence[tf.Tensor], images: tf.Tensor, align_corners: bool = True
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Resizes the scales' scores to scale 1 and takes their maximum.

        Args:
            score_maps: from `score_maps`.
            images: the input it was given, for its size.
            align_corners: as for `score_maps`.

        Returns:
            The fused logits, float32 [B, h, w, K], and each scale's scores resized to [B, h, w, K].
        """
        if self.scales == (1.0,):
            return score_maps[0], list(score_maps)
        resized = resize_to_scale_1(score_maps, images, self.scales, self.output_stride, align_corners)
        return tf.reduce_max(tf.stack(resized), axis=0), resized

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        """Checks the images, then calls the network; see `call`.

        Raises:
            ValueError: no RGB images [B, H, W, 3], or no levels from 0 to 255. The levels are looked at where the
                images are given as numbers, not in a graph.
        """
        shape = getattr(images, "shape", None)
        if shape is not None:
            check_shape(shape)
            if not isinstance(images, keras.KerasTensor) and tf.executing_eagerly():
                check_levels(images)
        return super().__call__(images, *args, **kwargs)

    def call(
        self,
        images: tf.Tensor,
        dropout_seeds: tf.Tensor | None = None,
        align_corners: bool = True,
        training: bool = False,
    ) -> tf.Tensor:
        """Returns the fused logits, float32 [B, h, w, K]; see the class and `score_maps`.

        With `training=True` and no seeds, `SeededDropout` draws some.
        """
        return self.fuse(self.score_maps(images, dropout_seeds, align_corners), images, align_corners)[0]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Updates the weights as train.py does, see `steps.train_step`."""
        return steps.train_step(self, data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluates a batch, see `steps.test_step`."""
        return steps.test_step(self, data)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor | None:
        """Compares scores y_pred [B, h, w, K] with labels y, see `keras.Model.compute_loss`.

        Losses of Keras get the scores at the size of the labels; `SegmentationLoss` takes the labels at theirs.
        """
        scores = y_pred if isinstance(self.loss, LossOfScales) else steps.at_labels(y_pred, y)
        return super().compute_loss(x, y, scores, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Shows the metrics the scores at the size of the labels, as an evaluation compares them."""
        return super().compute_metrics(x, y, steps.at_labels(y_pred, y), sample_weight)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns the logits of a batch of images."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        check_levels(images)
        return self(images, training=False)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains, see `keras.Model.fit` and `steps.batch_of`.

        Raises:
            ValueError: other images or labels than expected.
            UserError: see `refuse_frozen_weights`.
        """
        refuse_frozen_weights()
        with steps.explaining_images(self, args, kwargs):
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates, see `keras.Model.evaluate` and `fit`."""
        with steps.explaining_images(self, args, kwargs):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the logits of many images, see `keras.Model.predict` and `call`."""
        with steps.explaining_images(self, args, kwargs):
            return super().predict(*args, **kwargs)

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """Returns a layer, also "backbone" or "head", by its name or its place in `layers`."""
        if index is None and name in (self.backbone.name, self.head.name):
            return self.backbone if name == self.backbone.name else self.head
        return super().get_layer(name, index)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, serialised, and which weights are frozen one by one."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "head": keras.saving.serialize_keras_object(self.head),
            "scales": list(self.scales),
            "frozen": _frozen_variables(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> DeepLab:
        """Builds the network that `get_config` describes, with fresh weights."""
        config = dict(config)
        frozen = config.pop("frozen", [])
        for part in ("backbone", "head"):
            config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects)
        model = cls(**config)
        for variable in model.variables:
            if _short_name(variable) in frozen:
                variable.trainable = False
        return model

    def save_weights(self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None) -> None:
        """Saves the weights as `keras.Model.save_weights` does, under backbone/LAYER and head/LAYER."""
        _Parts(self).save_weights(filepath, overwrite, max_shard_size)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads what `save_weights` saved, or the weights of a `.keras` file; see `keras.Model.load_weights`."""
        if str(filepath).endswith(".keras"):
            super().load_weights(filepath, skip_mismatch, **kwargs)
        else:
            _Parts(self).load_weights(filepath, skip_mismatch, **kwargs)


class _Parts(keras.Model):
    """A network as files of weights have it: a backbone and a head, under these names."""

    def __init__(self, model: DeepLab) -> None:
        super().__init__(name=model.name)
        self.backbone = model.backbone
        self.head = model.head
        self.built = True


def _connect(backbone: Backbone, head: ASPP, scales: tuple[float, ...], images: keras.KerasTensor) -> keras.KerasTensor:
    """Does what `DeepLab.call` does with symbolic images, layer by layer."""
    images = RGBImages(name="rgb")(images)
    normalize = Normalize(type(backbone), name="normalize")
    maps = []
    for scale in scales:
        scaled = images if scale == 1 else ScaleImages(scale, dtype="float32", name=f"scale_{scale:g}")(images)
        # Any layer that is called like a backbone can be one.
        connect: Any = getattr(backbone, "connect", backbone)
        maps.append(head.connect(connect(normalize(scaled))))
    if scales == (1.0,):
        return maps[0]
    fused = MaximumOverScales(scales, backbone.output_stride, dtype="float32", name="fused")
    return fused([images, *maps])


def _frozen_variables(model: DeepLab) -> list[str]:
    """Names the variables that could learn and do not: those that `freeze` or a layer's `trainable` has frozen."""
    layers = [layer for part in (model.backbone, model.head) for layer in part._flatten_layers()]
    return [_short_name(v) for layer in layers for v in layer._trainable_variables if not v.trainable]


def _short_name(variable: keras.Variable) -> str:
    return "/".join(variable.path.split("/")[-2:])


def build_network(config: ModelConfig, num_classes: int, precision: str = "float32", dropout: float = 0.5) -> DeepLab:
    """Builds the network that a configuration describes, with fresh weights.

    Args:
        config: which network.
        num_classes: K.
        precision: "float32", "bfloat16" or "float16": what backbone and head compute in. Variables, the
            classifier and the logits are float32.
        dropout: rate in the VGG head, active only where `dropout_seeds` are given.

    Returns:
        A built `DeepLab`.

    Raises:
        ValueError: num_classes < 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}.")
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    common: dict[str, Any] = {"implementation": config.atrous, "dtype": policy}
    backbone_class = BACKBONES[config.backbone]
    options = {name: getattr(config, name) for name in backbone_class.options}
    backbone = backbone_class(output_stride=config.output_stride, name="backbone", **options, **common)
    head = ASPP(
        num_classes,
        config.rates,
        kernel_size=config.kernel_size,
        hidden_units=config.hidden_units,
        dropout=dropout,
        name="head",
        **common,
    )
    return DeepLab(backbone, head, config.scales)


def rebuild(model: DeepLab, atrous: str) -> DeepLab:
    """Builds a network once more with another form of its atrous convolutions, computing in float32.

    Args:
        model: the network.
        atrous: deinterlace, dilated or auto, see `AtrousConv2D`.

    Returns:
        The other network, with copies of the weights.
    """
    changed = {"implementation": atrous, "dtype": "float32"}
    backbone, head = (type(part).from_config(part.get_config() | changed) for part in (model.backbone, model.head))
    other = DeepLab(backbone, head, model.scales, name=model.name)
    other.set_weights(model.get_weights())
    return other


def build_model(experiment: str, num_classes: int, precision: str = "float32") -> DeepLab:
    """Builds the network of a named experiment, with fresh weights.

    Args:
        experiment: a name from `EXPERIMENTS`, such as "resnet101_aspp_msc".
        num_classes: K, background included.
        precision: "float32", "bfloat16" or "float16".

    Returns:
        A keras.Model from RGB float32 0..255 [B, H, W, 3] to float32 logits [B, h, w, K].

    Raises:
        UserError: no such experiment.
        ValueError: num_classes < 1.
    """
    return build_network(experiment_config(experiment).model, num_classes, precision)
