"""A trained network at a finer output stride, with the weights it has (Sec. 3.1).

Taking the stride out of a layer keeps all its positions instead of every other one. What follows then has to
reach twice as far: its convolutions and pools are dilated by two. At the positions that the original network
computes, the new one computes the same sums.
"""

from __future__ import annotations

from deeplab_tf.networks.deeplab import DeepLab


def restride(model: DeepLab, output_stride: int) -> DeepLab:
    """Builds a network with the same weights and a denser answer.

    With one scale, `restride(model, s)(x)[:, ::f, ::f]` equals `model(x)` up to rounding, f the factor between the
    two strides, for inputs of 32k + 1 pixels a side. With several scales each scale's scores do; their resizing to
    one size then starts from more cells.

    Args:
        model: a network.
        output_stride: input pixels per score-map cell: the model's own divided by a power of two, at least the smallest
            of the backbone's `output_strides`.

    Returns:
        A new network. Its weights are copies.

    Raises:
        ValueError: an output stride that this network cannot have.
    """
    allowed = [stride for stride in model.backbone.output_strides if stride <= model.output_stride]
    if not allowed:
        raise ValueError(f"{type(model.backbone).__name__} cannot be re-strided: it names no output strides.")
    if output_stride not in allowed:
        raise ValueError(
            f"a network of output stride {model.output_stride} can be re-strided to {allowed}, got {output_stride}."
        )
    head = model.head.restrided(model.output_stride // output_stride)
    restrided = DeepLab(model.backbone.restrided(output_stride), head, model.scales)
    restrided.set_weights(model.get_weights())
    return restrided
