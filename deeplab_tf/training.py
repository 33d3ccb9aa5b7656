"""Training (Sec. 4): the step, and the loop around it. One loop serves every tf.distribute strategy."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf import losses, visualize, weights
from deeplab_tf import workdir as workdirs
from deeplab_tf.checkpoints import Checkpoints
from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.model import DeepLab, build_network
from deeplab_tf.optimizer import build_optimizer, build_schedule
from deeplab_tf.progress import Progress, Summaries
from deeplab_tf.resize import next_clean_size

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")

MakeBatches = Callable[..., tf.data.Dataset]
"""(start_step, pipeline_index, num_pipelines, replicas) -> batches, see datasets.pipeline.train_batches."""


def build_strategy(name: str) -> tf.distribute.Strategy:
    """Builds a distribution strategy; to be called before anything else touches a device.

    Args:
        name: "one_device", the first GPU or the CPU; "mirrored", all GPUs of this machine (or all logical
            CPUs); "multi_worker", what TF_CONFIG describes; "auto", multi_worker where TF_CONFIG is set,
            mirrored with several GPUs, else one_device.

    Raises:
        UserError: multi_worker without TF_CONFIG.
    """
    if name == "auto":
        if "TF_CONFIG" in os.environ:
            name = "multi_worker"
        else:
            name = "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"
    if name == "multi_worker":
        if "TF_CONFIG" not in os.environ:
            raise UserError(
                "--strategy=multi_worker needs the environment variable TF_CONFIG; on one machine use mirrored."
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return (
        tf.distribute.MirroredStrategy(devices) if name == "mirrored" else tf.distribute.OneDeviceStrategy(devices[0])
    )


def build_train_step(
    model: DeepLab,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    ignore_label: int,
    class_weights: Sequence[float] = (),
) -> tuple[Callable[[dict[str, Any]], tf.Tensor], list[str]]:
    """Builds the update of the weights.

    Every loss is the mean over the valid pixels of the micro-batch on all replicas: sums and counts are added
    before they are divided. The gradients of the micro-batches are averaged (iter_size).

    Args:
        model: the network.
        optimizer: built for the model's trainable variables.
        strategy: the model's.
        ignore_label: of pixels that do not count.
        class_weights: see `losses.cross_entropy_sum`.

    Returns:
        The step, and the names of what it returns. The step takes {"image": float32 [b, I, H, W, 3] RGB
        0..255, "labels": int32 [b, I, H, W], "seeds": int32 [b, I, 2]} per replica, I = iter_size, and
        returns float32 [terms], each loss averaged over the micro-batches.
    """
    scales = model.scales
    strides = losses.label_strides(model.output_stride, scales)
    several = scales != (1.0,)
    names = [f"scale_{scale:g}" for scale in scales] + (["fused"] if several else [])
    term_strides = [stride or model.output_stride for stride in strides] + ([model.output_stride] if several else [])
    variables = model.trainable_variables

    def term_sums(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> list[tf.Tensor]:
        """The cross-entropy of every scale and of the fused scores, summed over this replica's pixels."""
        maps = model.score_maps(images, seeds)
        fused, resized = model.fuse(maps, images)
        logits = [own if stride else at_one for stride, own, at_one in zip(strides, maps, resized, strict=True)]
        logits += [fused] if several else []
        return [
            losses.cross_entropy_sum(scores, losses.subsample_labels(labels, stride), ignore_label, class_weights)
            for scores, stride in zip(logits, term_strides, strict=True)
        ]

    def replica_step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        # [b, I, ...] -> [I, b, ...]: one entry per micro-batch.
        micro = {name: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]) for name, x in batch.items()}
        iter_size = batch["labels"].shape[1]
        counts = tf.stack(
            [
                tf.stack(
                    [
                        losses.count_valid(losses.subsample_labels(micro["labels"][i], s), ignore_label, class_weights)
                        for s in term_strides
                    ]
                )
                for i in range(iter_size)
            ]
        )  # [I, terms]
        counts = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, counts)

        def gradients_of(i: int | tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                sums = term_sums(micro["image"][i], micro["labels"][i], micro["seeds"][i])
                terms = tf.math.divide_no_nan(tf.stack(sums), counts[i])  # [terms]
                loss = tf.reduce_sum(terms) / iter_size
                scaled = optimizer.scale_loss(loss)
            return terms / iter_size, tape.gradient(scaled, variables)

        if iter_size == 1:
            terms, gradients = gradients_of(0)
        else:
            # A loop in the graph: one micro-batch's activations at a time.
            def accumulate(i: tf.Tensor, terms: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[Any, ...]:
                more_terms, more = gradients_of(i)
                return i + 1, terms + more_terms, [a + b for a, b in zip(gradients, more, strict=True)]

            start = (tf.constant(0), tf.zeros(len(term_strides)), [tf.zeros(v.shape) for v in variables])
            _, terms, gradients = tf.while_loop(lambda i, *_: i < iter_size, accumulate, start, parallel_iterations=1)
        optimizer.apply(gradients, variables)  # adds the replicas' gradients first
        return terms

    @tf.function
    def step(batch: dict[str, Any]) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=(batch,)), axis=None)

    return step, names


def check_crop_size(config: Config, model: DeepLab) -> None:
    """Refuses crops whose scores would not lie on the labels.

    Raises:
        UserError: the crop is not of the form size_multiple*k + 1.
    """
    crop, multiple = config.train.crop_size, model.size_multiple
    clean = next_clean_size(crop, multiple)
    if clean != crop:
        raise UserError(
            f"train.crop_size={crop} does not fit this network, whose crops are {multiple}k + 1; try {clean}."
        )


def freeze(model: DeepLab, groups: Sequence[str]) -> None:
    """Keeps the weights of some groups of layers as they are.

    Args:
        model: the network.
        groups: such as "conv1" for conv1_1 and conv1_2, or "res2a" for that block's branches.

    Raises:
        UserError: a group that the network does not have.
    """
    by_group: dict[str, list[keras.Variable]] = {}
    for variable in model.trainable_variables:
        by_group.setdefault(variable.path.split("/")[-2].split("_")[0], []).append(variable)
    for group in groups:
        if group not in by_group:
            raise UserError(f"train.frozen_layers: there is no {group!r} among {', '.join(by_group)}.")
        for variable in by_group[group]:
            variable.trainable = False


def train(
    config: Config,
    workdir: str,
    make_batches: MakeBatches,
    *,
    init: str,
    strategy_name: str = "auto",
    run: dict[str, Any] | None = None,
) -> None:
    """Trains, or resumes, until `workdir` holds model.weights.h5.

    Args:
        config: with its data set.
        workdir: where everything goes; continued where it holds checkpoints.
        make_batches: of the training split.
        init: "imagenet", "hed", "none", a weights file or another workdir; looked at only at the beginning of a run.
        strategy_name: see `build_strategy`.
        run: what else config.json is to say about this run.

    Raises:
        UserError: bad settings or files, or a loss that is not finite.
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM, both after saving.
    """
    strategy = build_strategy(strategy_name)
    keras.utils.set_random_seed(config.train.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    config.check_class_weights()
    with strategy.scope():
        model = build_network(config.model, config.info.num_classes, config.train.precision, config.train.dropout)
        check_crop_size(config, model)
        freeze(model, config.train.frozen_layers)
        optimizer = _build_solver(config)
        optimizer.build(model.trainable_variables)
    workdirs.open_workdir(workdir, config, {**(run or {}), "init": init})
    checkpoints = Checkpoints(workdir, model, optimizer)
    _print_summary(config, model, strategy, workdir)
    restored = checkpoints.restore()
    start = int(optimizer.iterations.value)
    if restored:
        print(f"resuming at step {start} from {restored}")
    else:
        _initialise(model, init, config.train.seed)
    if start < config.train.iterations:
        batches = _distribute(make_batches, config, strategy, start)
        step, names = build_train_step(model, optimizer, strategy, config.info.ignore_label, config.train.class_weights)
        _loop(config, workdir, model, optimizer, checkpoints, batches, step, names, start)
    print(f"trained to step {config.train.iterations}: {workdirs.save_weights(model, workdir)}")


def _loop(
    config: Config,
    workdir: str,
    model: DeepLab,
    optimizer: keras.optimizers.Optimizer,
    checkpoints: Checkpoints,
    batches: Iterator[dict[str, Any]],
    train_step: Callable[[dict[str, Any]], tf.Tensor],
    names: list[str],
    start: int,
) -> None:
    settings = config.train
    summaries = Summaries(workdir)
    progress = Progress(start, settings.iterations, settings.batch_size * settings.iter_size)
    with _stop_signals() as stopped, contextlib.closing(summaries), contextlib.closing(progress):
        for done in range(start + 1, settings.iterations + 1):
            learning_rate = float(optimizer.learning_rate)
            batch = next(batches)
            terms = train_step(batch).numpy()
            loss = float(terms.sum())
            if not math.isfinite(loss):
                raise UserError(f"the loss is {loss} at step {done}; {checkpoints.advice()}")
            progress.update(done, loss, learning_rate)
            last = done == settings.iterations
            if done % settings.summary_every == 0 or last:
                scalars = {f"loss/{name}": float(term) for name, term in zip(names, terms, strict=True)}
                scalars |= {
                    "loss/total": loss,
                    "learning_rate": learning_rate,
                    "images_per_second": progress.images_per_second,
                }
                summaries.scalars(done, scalars)
            if done % (10 * settings.summary_every) == 0 or last:
                summaries.picture(done, "image_truth_prediction", _training_picture(model, batch, config.info))
            if done % settings.save_every == 0 or last or stopped:
                checkpoints.save(done)
            if stopped:
                progress.close()
                print(
                    f"stopped by {stopped[0].name} after step {done}, saved; the same command resumes.", file=sys.stderr
                )
                sys.exit(128 + stopped[0])


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGINT and SIGTERM while a step runs; a second one of a kind acts at once."""
    received: list[signal.Signals] = []
    before: dict[int, Any] = {}

    def note(number: int, _: Any) -> None:
        received.append(signal.Signals(number))
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def _build_solver(config: Config) -> keras.optimizers.Optimizer:
    solver = config.optimizer
    schedule = build_schedule(
        solver.policy,
        solver.base_lr,
        config.train.iterations,
        solver.power,
        solver.step_size,
        solver.gamma,
        solver.warmup,
    )
    return build_optimizer(
        solver.name,
        schedule,
        momentum=solver.momentum,
        weight_decay=solver.weight_decay,
        classifier_lr_mult=solver.classifier_lr_mult,
        fresh_layers=solver.fresh_layers,
        fresh_lr_mult=solver.fresh_lr_mult,
        beta_2=solver.beta_2,
        loss_scaling=config.train.precision == "float16",
    )


def _initialise(model: DeepLab, init: str, seed: int) -> None:
    if init == "none":
        print("every weight starts at random (--init=none): this does not reach the paper's results.")
    elif init == "imagenet":
        print(weights.load_imagenet(model, seed=seed))
    elif init == "hed":
        print(weights.load_hed(model))
    elif os.path.isdir(init):
        print(weights.load_weights(model, os.path.join(init, workdirs.WEIGHTS_FILE)))
    else:
        print(weights.load_weights(model, init, seed))


def _distribute(
    make_batches: MakeBatches, config: Config, strategy: tf.distribute.Strategy, start: int
) -> Iterator[dict[str, Any]]:
    """Gives every replica its rows of each micro-batch. Each worker makes its own, so nothing is sharded twice."""

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_batches(
            start_step=start,
            pipeline_index=context.input_pipeline_id,
            num_pipelines=context.num_input_pipelines,
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    replicas = strategy.num_replicas_in_sync
    if config.train.batch_size % replicas:
        raise UserError(
            f"train.batch_size={config.train.batch_size} cannot be dealt to {replicas} replicas; "
            f"try {replicas * math.ceil(config.train.batch_size / replicas)}."
        )
    return iter(strategy.distribute_datasets_from_function(worker_batches))


def _print_summary(config: Config, model: DeepLab, strategy: tf.distribute.Strategy, workdir: str) -> None:
    settings, solver, info = config.train, config.optimizer, config.info
    effective = settings.batch_size * settings.iter_size
    replicas = strategy.num_replicas_in_sync
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    rows = {
        "experiment": f"{config.experiment}, {model.count_params() / 1e6:.1f}M parameters "
        f"({trainable / 1e6:.1f}M trained)",
        "data": f"{info.name}, {info.num_classes} classes: {', '.join(info.class_names)}",
        "devices": f"{replicas} x {strategy.extended.worker_devices[0].split('device:')[-1]} "
        f"({type(strategy).__name__})",
        "batch": f"{effective} images an update = {settings.batch_size} over {replicas} replica(s) "
        f"x iter_size {settings.iter_size}, crops of {settings.crop_size}",
        "solver": f"{solver.name}, base_lr {solver.base_lr:g}, {solver.policy}, {settings.iterations} updates, "
        f"{settings.precision}",
        "workdir": f"{workdir} (tensorboard --logdir={workdir})",
    }
    print("\n".join(f"{name:>11}  {text}" for name, text in rows.items()), flush=True)


def _training_picture(model: DeepLab, batch: dict[str, Any], info: DatasetInfo, most: int = 3) -> np.ndarray:
    """Shows images of the first replica's batch with their labels and what the network says now."""
    first = {name: _first_replica(value)[:most, 0] for name, value in batch.items()}
    predictions = np.argmax(model(first["image"]), axis=-1)
    rows = []
    for image, labels, cells in zip(first["image"].numpy(), first["labels"].numpy(), predictions, strict=True):
        image = np.clip(np.round(image), 0, 255).astype(np.uint8)
        coarse = np.kron(cells, np.ones((model.output_stride, model.output_stride), np.uint8))
        coarse = coarse[: labels.shape[0], : labels.shape[1]].astype(np.uint8)
        rows.append([image, visualize.colourize(labels, info.palette), visualize.colourize(coarse, info.palette)])
    return visualize.panel(rows, ["image", "truth", "network"], class_names=info.class_names, palette=info.palette)


def _first_replica(value: Any) -> tf.Tensor:
    return value.values[0] if hasattr(value, "values") else value
