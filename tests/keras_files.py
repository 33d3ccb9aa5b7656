"""Writes `.h5` files laid out as those that Keras publishes for its applications; independent of the reader."""

from __future__ import annotations

import h5py
import numpy as np

VGG_CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
RESNET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def write(path, layers, group="", attributes_per_part=0):
    """Writes layers, {name: [(weight name, array), ...]}, in the form of Keras 1 and 2.

    `group` is where a whole model keeps them; `attributes_per_part` splits the list of layers, as Keras does when
    it grows too long for one attribute.
    """
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        names = np.array([name.encode() for name in layers])
        if attributes_per_part:
            for part, first in enumerate(range(0, len(names), attributes_per_part)):
                root.attrs[f"layer_names{part}"] = names[first : first + attributes_per_part]
        else:
            root.attrs["layer_names"] = names
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.1.6"
        for name, arrays in layers.items():
            layer = root.create_group(name)
            layer.attrs["weight_names"] = np.array([weight.encode() for weight, _ in arrays])  # empty: float64 [0]
            for weight, array in arrays:
                layer.create_dataset(weight, data=array)
    return str(path)


def vgg16_layers(trunk, fully_connected=()):
    """The layers of vgg16_weights_tf_dim_ordering_tf_kernels[_notop].h5.

    Args:
        trunk: [(kernel, bias)] of the 13 convolutions.
        fully_connected: [(kernel, bias)] of fc1, fc2 and predictions, or nothing.
    """
    layers, arrays = {"input_1": []}, iter(trunk)
    for block, count in VGG_CONVOLUTIONS.items():
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            kernel, bias = next(arrays)
            layers[name] = [(f"{name}_W_1:0", kernel), (f"{name}_b_1:0", bias)]
        layers[f"block{block}_pool"] = []
    if fully_connected:
        layers["flatten"] = []
        for name, (kernel, bias) in zip(("fc1", "fc2", "predictions"), fully_connected, strict=True):
            layers[name] = [(f"{name}_W_1:0", kernel), (f"{name}_b_1:0", bias)]
    return layers


def layers_of(network):
    """The layers of a keras.applications ResNet, as in resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5."""
    layers = {}
    for layer in network.layers:
        weights = [*layer.trainable_weights, *layer.non_trainable_weights]
        layers[layer.name] = [(f"{layer.name}/{w.name}:0", np.array(w)) for w in weights]
    return layers
