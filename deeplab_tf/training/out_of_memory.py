"""What to do when a training does not fit into memory."""

from __future__ import annotations

from deeplab_tf.config import Config


def remedies(config: Config, replicas: int, rehearsal: bool = False) -> str:
    """Names the settings that make an update smaller, with values where these follow from the configuration.

    Args:
        config: of the training.
        replicas: devices that share a micro-batch.
        rehearsal: leave the advice to rehearse out.

    Returns:
        Some sentences.
    """
    settings = config.train
    ways = []
    images = settings.batch_size * settings.iter_size
    smaller = [b for b in range(settings.batch_size // 2, 0, -1) if b % replicas == 0 and images % b == 0]
    if smaller:
        ways.append(
            f"--set=train.batch_size={smaller[0]} with --set=train.iter_size={images // smaller[0]} (the same update, "
            "in more steps)"
        )
    else:
        ways.append("a smaller --set=train.batch_size with a larger train.iter_size, on fewer devices")
    ways.append(f"--set=train.crop_size below {settings.crop_size}")
    if settings.precision == "float32":
        ways.append("--set=train.precision=bfloat16")
    text = (
        f"An update computes {settings.batch_size} crops of {settings.crop_size} pixels at a time on {replicas} "
        f"device{'s' if replicas > 1 else ''} in {settings.precision}. Try {', '.join(ways[:-1])} or {ways[-1]}"
    )
    return text + ("." if rehearsal else "; --dry_run says beforehand what a training takes.")
