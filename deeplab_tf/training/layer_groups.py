"""The groups of layers that settings name, such as conv1 for conv1_1 and conv1_2: frozen ones, fresh ones."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import DeepLab


def freeze(model: DeepLab, groups: Sequence[str]) -> None:
    """Keeps the weights of some groups of layers as they are.

    Args:
        model: the network.
        groups: such as "conv1" for conv1_1 and conv1_2, or "res2a" for that block's branches.

    Raises:
        UserError: a group that the network does not have, or nothing is left to train.
    """
    require_groups(model, "train.frozen_layers", groups)
    variables = model.variable_groups()
    for group in groups:
        for variable in variables[group]:
            variable.trainable = False
    if not model.trainable_variables:
        raise UserError(
            "train.frozen_layers names every group of layers, so that nothing would be trained. Leave out those that "
            f"should be trained, of {', '.join(variables)}."
        )


def check_fresh_layers(model: DeepLab, groups: Sequence[str], frozen: Sequence[str] = ()) -> None:
    """Checks optimizer.fresh_layers, before `freeze`.

    Args:
        model: the network.
        groups: those that get the learning rate of fresh layers.
        frozen: those that will keep their weights.

    Raises:
        UserError: a group that the network does not have, or whose learning rate another setting says.
    """
    setting = "optimizer.fresh_layers"
    require_groups(model, setting, groups)
    for group in groups:
        if group == model.head.classifier:
            raise UserError(
                f"{setting}: the learning rate of {group}, the classifier, is multiplied by "
                "optimizer.classifier_lr_mult. Leave it out."
            )
        if group in frozen:
            raise UserError(
                f"{setting}: {group} is not trained, because train.frozen_layers names it too. "
                "Remove it from one of them."
            )


def require_groups(model: DeepLab, setting: str, groups: Sequence[str]) -> None:
    """Refuses groups of layers that a network does not have.

    Args:
        model: the network.
        setting: where they are named, for the message.
        groups: such as "conv1" or "res2a".

    Raises:
        UserError: one that is not there.
    """
    known = model.variable_groups()
    for group in groups:
        if group not in known:
            close = difflib.get_close_matches(group, known, n=1)
            raise UserError(
                f"{setting}: there is no {group!r} among {', '.join(known)}"
                f"{f' (did you mean {close[0]}?)' if close else ''}."
            )
