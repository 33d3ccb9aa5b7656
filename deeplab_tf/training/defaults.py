"""Settings that follow from others and from the data: the number of updates, and what happens every so often."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from deeplab_tf.config import Config
from deeplab_tf.errors import UserError

MOST_BETWEEN_SAVES, MOST_BETWEEN_VALIDATIONS = 500, 1000
_SAVES, _VALIDATIONS = 20, 10


def with_iterations(config: Config, num_images: int, given: Iterable[str] = ()) -> Config:
    """Turns train.epochs into train.iterations.

    Args:
        config: of the training.
        num_images: of the split to train on.
        given: the settings that the user gave, such as "train.epochs".

    Returns:
        The configuration with the iterations that so many epochs take, the last update included that begins within
        them. Where only the iterations were given, they count, and the epochs of a file do not.

    Raises:
        UserError: both were given, or they are more updates than can be counted.
    """
    train, names = config.train, set(given)
    if {"train.iterations", "train.epochs"} <= names and train.epochs:
        raise UserError("train.iterations and train.epochs both set the length of the training: give only one of them.")
    if not train.epochs:
        return config
    if "train.iterations" in names:
        train = dataclasses.replace(train, epochs=0.0)
    else:
        images = train.epochs * num_images
        iterations = max(1, math.ceil(images / (train.batch_size * train.iter_size)))
        try:
            train = dataclasses.replace(train, iterations=iterations)
        except ValueError as error:
            raise UserError(f"train.epochs={train.epochs:g} of {num_images} images: {error}") from error
    return dataclasses.replace(config, train=train)


def with_intervals(config: Config) -> Config:
    """Fills in train.save_every and train.eval_every where they are 0: twenty checkpoints, ten validations.

    Of a long training there are more: see MOST_BETWEEN_SAVES and MOST_BETWEEN_VALIDATIONS.
    """
    train = config.train
    saves = min(MOST_BETWEEN_SAVES, math.ceil(train.iterations / _SAVES))
    validations = min(MOST_BETWEEN_VALIDATIONS, math.ceil(train.iterations / _VALIDATIONS))
    train = dataclasses.replace(train, save_every=train.save_every or saves, eval_every=train.eval_every or validations)
    return dataclasses.replace(config, train=train)
