"""DeepLabv2 for TensorFlow and Keras: atrous convolution, ASPP, multi-scale inputs and the dense CRF.

The tensor contract, the same in every file:

    images         float32 [B, H, W, 3], RGB, 0..255; the network subtracts the mean itself
    labels         int32   [B, H, W], class indices; 255 is ignored
    score map      float32 [B, h, w, K], logits at 1/8 of the input: h = (H - 1)/8 + 1 (output stride 8)
    probabilities  float32 [H, W, K], softmax at the size of the image, 0..1
    CRF image      uint8   [H, W, 3], RGB as stored

Letters: B batch, H W pixels, h w score-map cells, C channels, K classes, N = H*W, r rate.

    paper                              file
    Sec. 3.1  atrous convolution       atrous.py, atrous_depthwise.py, winograd.py (in answers)
    Sec. 3.1  VGG-16 and ResNet        vgg.py, resnet.py, conv_batch_norm.py, pooling.py, normalization.py
              EfficientNet-Lite0       efficientnet.py
    Sec. 3.1  a finer output stride    output_stride.py
    Sec. 3.2  ASPP, LargeFOV           aspp.py
    Sec. 3.2  several scales, maximum  model.py, resize.py
    Sec. 3.3  dense CRF                crf.py, mean_field.py, permutohedral.py, crf_maps.py (Fig. 5)
    Sec. 4.1.1  its constants          crf_search.py
    Sec. 4    loss, solver, training   losses.py, optimizer.py, dropout.py, training.py, train_step.py
    Sec. 4    evaluation               inference.py, metrics.py, trimap.py, evaluation.py
              prediction               prediction.py, predict_files.py, video.py, image_files.py, in_order.py
              with Apache Beam         batch_predict.py, batch/, beam.py, beam_worker.py
              export                   fold.py, saved_model.py, warm_up.py, tflite.py, exported.py, fixed_size.py
              a page to try a model    webapp/
    Tables    the networks by name     config.py (EXPERIMENTS)

The names below are loaded when they are first used, so `import deeplab_tf` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab_tf.config import EXPERIMENTS
    from deeplab_tf.crf.dense_crf import CrfParams, dense_crf
    from deeplab_tf.errors import UserError
    from deeplab_tf.inference.probabilities import predict_probabilities
    from deeplab_tf.layers.atrous import AtrousConv2D
    from deeplab_tf.layers.atrous_depthwise import AtrousDepthwiseConv2D
    from deeplab_tf.networks.deeplab import build_model
    from deeplab_tf.networks.restride import restride
    from deeplab_tf.weights import load_weights
    from deeplab_tf.workdir import load

__version__ = "0.1.0"

__all__ = [
    "EXPERIMENTS",
    "AtrousConv2D",
    "AtrousDepthwiseConv2D",
    "CrfParams",
    "UserError",
    "__version__",
    "build_model",
    "dense_crf",
    "load",
    "load_weights",
    "predict_probabilities",
    "restride",
]

_MODULES = {
    "AtrousConv2D": "layers.atrous",
    "AtrousDepthwiseConv2D": "layers.atrous_depthwise",
    "CrfParams": "crf.dense_crf",
    "EXPERIMENTS": "config",
    "UserError": "errors",
    "build_model": "networks.deeplab",
    "dense_crf": "crf.dense_crf",
    "load": "workdir",
    "load_weights": "weights",
    "predict_probabilities": "inference.probabilities",
    "restride": "networks.restride",
}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name (PEP 562).

    Raises:
        AttributeError: no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
