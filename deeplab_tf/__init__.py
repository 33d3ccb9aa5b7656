"""DeepLabv2 for TensorFlow and Keras: atrous convolution, ASPP, multi-scale inputs and the dense CRF.

The tensor contract, the same in every file:

    images         float32 [B, H, W, 3], RGB, 0..255; the network subtracts the mean itself
    labels         int32   [B, H, W], class indices; 255 is ignored
    score map      float32 [B, h, w, K], logits at 1/8 of the input: h = (H - 1)/8 + 1 (output stride 8)
    probabilities  float32 [H, W, K], softmax at the size of the image, 0..1
    CRF image      uint8   [H, W, 3], RGB as stored

Letters: B batch, H W pixels, h w score-map cells, C channels, K classes, N = H*W, r rate.

The rooms:

    paper                     room              files
    Sec. 3.1  atrous conv.    layers/           atrous atrous_depthwise depthwise_gradient winograd
              other layers                      conv_batch_norm pooling dropout resize sum portable forward_only
                                                scales rgb
    Sec. 3.1  VGG, ResNet     networks/         vgg resnet normalization
              EfficientNet                      efficientnet
              what each says                    backbone pretrained
    Sec. 3.1  finer stride                      restride trained_config
    Sec. 3.2  LargeFOV, ASPP                    aspp
    Sec. 3.2  several scales                    deeplab update steps
    Sec. 3.3  dense CRF       crf/              params dense_crf mean_field pruning permutohedral
              what computes it                  backends with_kernels with_tensorflow with_pydensecrf
              compiled kernels                  compiled compiled_lattice compiled_filter compiled_mean_field
                                                compiled_choice compiled_rows compiled_cache
                                                compiled_team
              of hard labels                    hard_labels
    Fig. 5    belief maps                       maps
    Sec. 4    initial weights weights/          load fit names report imagenet hed installed keras_cache __main__
    Sec. 4    file formats    weights/readers/  caffemodel pytorch restricted_pickle npz safe_tensors hdf5 hdf5_probe
                                                keras_h5 keras_archive mapped
    Sec. 4    training        training/         loop step losses optimizer solver averaging checkpoints validation
                                                history
              looks after it                    layer_groups loss_watch trained_images idle_settings defaults
              what a user sees                  dry_run summary progress loss_file curves stop_signals out_of_memory
                                                catalogue config_file
              image to labels inference/        scores probabilities labels fold segmenter prediction pipeline files
    Sec. 4    evaluation      evaluation/       evaluate results metrics trimap report charts protocol submission
              object sizes                      sizes
              Keras' metric                     mean_iou
              stored labels                     stored
    Sec. 4.1  CRF constants                     crf_search
              export          export/           description kind saved_model tflite onnx openvino interchange
                                                onnx_graph onnx_conversion tflite_metadata checked compare
                                                packages warm_up load
              files, pictures images/           files depth newer_formats not_images orientation
                                                orientation_graph decode sources results
                                                polygons video visualize palettes fit mean
              Apache Beam     batch/            job pipeline plan blocks records storage manifest
              the local page  webapp/           __main__ server guard app page kept served_model uploads
              the machine     runtime/          command_line files devices tf_config memory native_messages threads
                                                progress written beam beam_boot beam_worker protobuf gpus
              the commands    commands/         train eval predict export trainer data_sets
    Tables    the networks    .                 experiments config shipped
              the rest                          errors dataset_info workdir model_flags batch_predict registration
              former names                      mean_field prediction

The names below are loaded when they are first used, so `import deeplab_tf` does not import TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from deeplab_tf import registration

if TYPE_CHECKING:
    from deeplab_tf.commands.trainer import train
    from deeplab_tf.crf.dense_crf import dense_crf
    from deeplab_tf.crf.params import CrfParams
    from deeplab_tf.errors import UserError
    from deeplab_tf.evaluation.mean_iou import MeanIoU
    from deeplab_tf.experiments import EXPERIMENTS, list_experiments
    from deeplab_tf.inference.prediction import Prediction
    from deeplab_tf.inference.probabilities import predict_probabilities
    from deeplab_tf.inference.segmenter import Segmenter
    from deeplab_tf.layers.atrous import AtrousConv2D
    from deeplab_tf.layers.atrous_depthwise import AtrousDepthwiseConv2D
    from deeplab_tf.networks.deeplab import build_model
    from deeplab_tf.networks.restride import restride
    from deeplab_tf.shipped import list_pretrained, load_pretrained
    from deeplab_tf.training.history import History
    from deeplab_tf.training.losses import SegmentationLoss
    from deeplab_tf.training.solver import compile_model
    from deeplab_tf.weights import load_weights
    from deeplab_tf.workdir import load

if "keras" not in sys.modules:
    # Whatever ~/.keras/keras.json or another program's environment says: everything here is written for TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
elif sys.modules["keras"].config.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {sys.modules['keras'].config.backend()} here, and deeplab_tf needs TensorFlow: import it"
        " before keras, or set KERAS_BACKEND=tensorflow."
    )

registration.register()

__version__ = "0.1.0"

__all__ = [
    "EXPERIMENTS",
    "AtrousConv2D",
    "AtrousDepthwiseConv2D",
    "CrfParams",
    "History",
    "MeanIoU",
    "Prediction",
    "SegmentationLoss",
    "Segmenter",
    "UserError",
    "__version__",
    "build_model",
    "compile_model",
    "dense_crf",
    "list_experiments",
    "list_pretrained",
    "load",
    "load_pretrained",
    "load_weights",
    "predict_probabilities",
    "restride",
    "train",
]

_MODULES = {
    "AtrousConv2D": "layers.atrous",
    "AtrousDepthwiseConv2D": "layers.atrous_depthwise",
    "CrfParams": "crf.params",
    "EXPERIMENTS": "experiments",
    "History": "training.history",
    "MeanIoU": "evaluation.mean_iou",
    "Prediction": "inference.prediction",
    "SegmentationLoss": "training.losses",
    "Segmenter": "inference.segmenter",
    "UserError": "errors",
    "build_model": "networks.deeplab",
    "compile_model": "training.solver",
    "dense_crf": "crf.dense_crf",
    "list_experiments": "experiments",
    "list_pretrained": "shipped",
    "load": "workdir",
    "load_pretrained": "shipped",
    "load_weights": "weights",
    "predict_probabilities": "inference.probabilities",
    "restride": "networks.restride",
    "train": "commands.trainer",
}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name (PEP 562).

    Raises:
        AttributeError: no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with contextlib.nullcontext() if "tensorflow" in sys.modules else _without_start_up_messages():
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def _without_start_up_messages() -> contextlib.AbstractContextManager[None]:
    """Keeps from the terminal what TensorFlow says of CUDA while it is imported, and later of a machine without it."""
    from deeplab_tf.runtime import native_messages

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        os.fstat(2)
    except OSError:  # a program without a stderr
        return contextlib.nullcontext()
    return contextlib.nullcontext() if sys.stderr is None else native_messages.held_back()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
