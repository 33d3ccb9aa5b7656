"""Settings that were given and change nothing."""

from __future__ import annotations

from collections.abc import Iterable

from deeplab_tf.config import Config


def idle_settings(config: Config, given: Iterable[str], validates: bool) -> list[str]:
    """Says which settings have no effect on a training, and why.

    Args:
        config: of the training.
        given: the settings that the user gave, such as "optimizer.beta_2".
        validates: whether there is a split to validate on.

    Returns:
        A sentence for each.
    """
    solver, train = config.optimizer, config.train
    reasons = {}
    if solver.name != "adam":
        reasons["optimizer.beta_2"] = f"the solver is {solver.name}, and adam has it (optimizer.name)"
    if solver.name != "sgd":
        reasons["optimizer.momentum"] = f"the solver is {solver.name}, and sgd has it (optimizer.name)"
    if solver.policy != "poly":
        reasons["optimizer.power"] = f"the policy is {solver.policy}, and poly has it (optimizer.policy)"
    if solver.policy != "step":
        for name in ("step_size", "gamma"):
            reasons[f"optimizer.{name}"] = f"the policy is {solver.policy}, and step has it (optimizer.policy)"
    if not solver.fresh_layers:
        reasons["optimizer.fresh_lr_mult"] = "optimizer.fresh_layers names no layers"
    if not config.model.hidden_units:
        reasons["train.dropout"] = "this network has no fc6 and fc7, after which units are dropped"
    if train.scale_range:
        reasons["train.augment_scales"] = "train.scale_range takes its place"
    if not validates:
        reasons |= dict.fromkeys(("train.eval_every", "train.patience"), "no --eval_split is given")
    return [f"{name} has no effect: {reasons[name]}." for name in dict.fromkeys(given) if name in reasons]
