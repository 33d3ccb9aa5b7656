"""Trained weights under other settings than they were trained with: which may differ, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from deeplab_tf.config import ModelConfig
from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import DeepLab, build_network
from deeplab_tf.networks.restride import restride

# Neither changes what the weights mean.
_FREE = frozenset({"scales", "atrous", "output_stride", "rates"})


def settle(trained: ModelConfig, wanted: ModelConfig, source: str, is_certain: bool = True) -> ModelConfig:
    """Returns the settings to build, so that trained weights compute what they were trained for.

    At a finer output stride the rates grow by the same factor, as `restride` does it; rates that have already been
    multiplied by it stay. Scales and the implementation of atrous convolutions are free.

    Args:
        trained: what the weights were trained with.
        wanted: the requested settings.
        source: the workdir or file, for messages.
        is_certain: `trained` was written down by the training. If not, it is what an experiment says, and other
            settings may describe the file better: then they are printed, not refused.

    Raises:
        UserError: settings with which the weights would give wrong answers.
    """
    factor, remainder = divmod(trained.output_stride, wanted.output_stride)
    changed = [
        field.name
        for field in dataclasses.fields(ModelConfig)
        if field.name not in _FREE and getattr(trained, field.name) != getattr(wanted, field.name)
    ]
    if factor < 1 or remainder:
        changed.append("output_stride")
        factor = 1
    grown = tuple(rate * factor for rate in trained.rates)
    rates = wanted.rates
    if rates == trained.rates:
        rates = grown
    elif rates != grown:
        changed.append("rates")
    if changed and is_certain:
        name = changed[0]
        was, now = _shown(getattr(trained, name)), _shown(getattr(wanted, name))
        remedy = {
            "output_stride": f"it can only be finer: leave the setting out, or divide {was} by a power of two.",
            "rates": f"leave the setting out: at output stride {wanted.output_stride} they are {_shown(grown)}.",
        }
        raise UserError(
            f"the weights of {source} were trained with model.{name}={was} and give wrong answers with {now}; "
            + remedy.get(name, "leave the setting out.")
        )
    if changed:
        settings = ", ".join(f"model.{name}={_shown(getattr(wanted, name))}" for name in changed)
        print(f"{source} is assumed to have been trained with {settings}, unlike the experiment.")
    if factor > 1:
        print(f"{source} answers at output stride {wanted.output_stride}, with the rates {_shown(rates)}.")
    return dataclasses.replace(wanted, rates=rates)


def build_trained(
    trained: ModelConfig, settled: ModelConfig, num_classes: int, precision: str, load: Callable[[DeepLab], None]
) -> DeepLab:
    """Builds a network as it was trained, loads its weights, and brings it to the output stride of its settings.

    Args:
        trained: what the weights were trained with.
        settled: from `settle`.
        num_classes: K.
        precision: "float32", "bfloat16" or "float16".
        load: fills the network with weights.
    """
    factor = trained.output_stride // settled.output_stride
    if factor <= 1 or settled.rates != tuple(rate * factor for rate in trained.rates):
        model = build_network(settled, num_classes, precision)
        load(model)
        return model
    coarse = dataclasses.replace(settled, output_stride=trained.output_stride, rates=trained.rates)
    model = build_network(coarse, num_classes, precision)
    load(model)
    # Not the same as building the finer network: VGG's pools have to be dilated, which its constructor cannot know.
    return restride(model, settled.output_stride)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
