"""Training (Sec. 4): from a configuration to trained weights. One loop serves every tf.distribute strategy."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import keras
import tensorflow as tf

from deeplab_tf import weights
from deeplab_tf import workdir as workdirs
from deeplab_tf.config import Config
from deeplab_tf.errors import UserError
from deeplab_tf.layers.conv_batch_norm import measuring_statistics
from deeplab_tf.layers.resize import next_clean_size
from deeplab_tf.networks.deeplab import DeepLab, build_network
from deeplab_tf.networks.update import refuse_frozen_weights
from deeplab_tf.runtime import devices, files, memory
from deeplab_tf.runtime.devices import MakeBatches
from deeplab_tf.training import curves, defaults, loss_file, stop_signals, trained_images
from deeplab_tf.training.averaging import averaged
from deeplab_tf.training.checkpoints import Checkpoints
from deeplab_tf.training.layer_groups import check_fresh_layers, freeze
from deeplab_tf.training.loss_file import LossFile
from deeplab_tf.training.loss_watch import PROBATION, LossWatch
from deeplab_tf.training.out_of_memory import remedies
from deeplab_tf.training.progress import Progress, Summaries
from deeplab_tf.training.solver import build_solver
from deeplab_tf.training.step import build_train_step
from deeplab_tf.training.summary import summary, training_picture
from deeplab_tf.training.trained_images import TrainedImages, TrainingData
from deeplab_tf.training.validation import Validation, ValidationSplit

_IMAGES_FOR_STATISTICS = 16


def train(
    config: Config,
    workdir: str,
    make_batches: MakeBatches,
    *,
    init: str,
    strategy_name: str = "auto",
    validation_split: ValidationSplit | None = None,
    run: dict[str, Any] | None = None,
    data: TrainingData | None = None,
    other_data: bool = False,
) -> None:
    """Trains, or resumes, until `workdir` holds model.weights.h5.

    Args:
        config: with its data set.
        workdir: where everything goes; continued where it holds checkpoints.
        make_batches: of the training split.
        init: see `initialise`; not used where the workdir holds checkpoints.
        strategy_name: see `devices.build_strategy`.
        validation_split: scored every `train.eval_every` updates; None for not.
        run: what else config.json is to say about this run: the data folder, the split.
        data: which images the splits hold, to notice later what was trained on; None for not.
        other_data: continue a workdir that was trained on other images, too.

    Raises:
        UserError: bad settings or files, a workdir in use or of other data, a full disk, too little memory, or a
            training that has diverged.
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM, both after saving.
    """
    refuse_frozen_weights()
    strategy = devices.build_strategy(strategy_name)
    chief = devices.is_chief(strategy)
    run = {**(run or {}), "init": init, "devices": devices.describe(strategy)}
    settled = defaults.with_intervals(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(devices.ending_with_the_others(strategy))
        remedy = functools.partial(remedies, config, strategy.num_replicas_in_sync)
        stack.enter_context(memory.explaining_exhaustion("training", remedy))
        if chief:
            stack.enter_context(workdirs.locked(workdir))
            workdirs.check_workdir(workdir, config, run)
            if data and not other_data and workdirs.has_checkpoints(workdir):
                trained_images.refuse_other_data(workdir, data)
            check_init(init)
        model, optimizer = build(config, strategy)
        checkpoints = Checkpoints(workdir, model, optimizer, config.train.keep_checkpoints)
        validation = None
        if chief:
            print(summary(settled, model, strategy, workdir), flush=True)
            if validation_split:
                validation = Validation(workdir, validation_split, config.info, config.inference)
            restored = checkpoints.restore()
            if restored:
                print(f"resuming at step {checkpoints.step} from {restored}")
                run["init"] = _init_of_resumed(workdir, init)
            else:
                initialise(model, init, config, make_batches)
            if data:
                trained = _trained_images(workdir, data, init, resumed=bool(restored), validation=validation_split)
            if validation and checkpoints.went_back:
                validation.forget_after(checkpoints.step)
        devices.copy_from_chief(strategy, checkpoints.variables)
        batches = devices.distribute(make_batches, strategy, config.train.batch_size, checkpoints.step, model.mean_rgb)
        if chief:
            workdirs.write_config(workdir, config, {**run, "start_step": checkpoints.step})
            if data:
                trained_images.write(workdir, trained)
        loop = _Loop(settled, workdir, strategy, model, optimizer, checkpoints, validation, bool(validation_split))
        verdict = loop.run(batches)
        if chief:
            if verdict:
                print(f"warning: {verdict}")
            with averaged(model, optimizer):
                print(f"trained to step {checkpoints.step}: {workdirs.save_weights(model, workdir)}")


def _trained_images(
    workdir: str, data: TrainingData, init: str, resumed: bool, validation: ValidationSplit | None
) -> TrainedImages:
    """Returns what the network will have seen, and says what is wrong with that."""
    known = trained_images.read(workdir) if resumed else None
    if known and (changes := known.changes(data)):
        print(f"warning: {changes}")
    if validation and validation.name in data.splits:
        shared = data.splits[validation.name].count_among(data.images)
        if shared:
            print(
                f"warning: {shared} of the {validation.count} images of {validation.name}, the --eval_split, are in "
                f"{data.split}, which is trained on: the scores say little about new images."
            )
    return known.continued_with(data) if known else trained_images.begin(data, init)


def build(config: Config, strategy: tf.distribute.Strategy) -> tuple[DeepLab, keras.optimizers.Optimizer]:
    """Builds the network, with fresh weights, and its solver.

    Raises:
        UserError: settings that do not fit the network.
    """
    keras.utils.set_random_seed(config.train.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    config.check_class_weights()
    with strategy.scope():
        model = build_network(config.model, config.info.num_classes, config.train.precision, config.train.dropout)
        check_crop_size(config, model)
        check_fresh_layers(model, config.optimizer.fresh_layers, config.train.frozen_layers)
        freeze(model, config.train.frozen_layers)
        optimizer = build_solver(config, model)
        optimizer.build(model.trainable_variables)
    return model, optimizer


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


def check_init(init: str) -> None:
    """Refuses a file or workdir that is not there, also where the weights come from a checkpoint.

    Raises:
        UserError: no such file or folder.
    """
    if init not in ("imagenet", "hed", "none") and not os.path.exists(init):
        raise UserError(
            f"no weights file and no workdir {init!r}: --init takes imagenet, hed, none, a weights file, or the "
            "workdir of another training."
        )


def _init_of_resumed(workdir: str, init: str) -> str:
    """Returns --init of the process that began a workdir, and says where another one is not used."""
    first = str(workdirs.first_run(workdir).get("init", init))
    if first != init:
        print(
            f"--init={init} is not used: the weights come from the checkpoint, and began with --init={first}. To start "
            "from other weights, name another --workdir."
        )
    return first


def initialise(model: DeepLab, init: str, config: Config, make_batches: MakeBatches) -> None:
    """Gives the network the weights that a training starts from, and says what was loaded.

    Args:
        model: the network.
        init: "imagenet", "hed", "none", a weights file or the workdir of another training.
        config: with the data set, whose classes the network is to tell apart. The classifier of a workdir with other
            classes is left out, also where they are as many.
        make_batches: of the training split. A network that starts at random takes the statistics of its batch
            normalisations from the first images.

    Raises:
        UserError: a file that is not there or does not fit.
    """
    seed, class_names = config.train.seed, config.info.class_names
    if init == "none":
        print("every weight starts at random (--init=none): this does not reach the paper's results.")
        if any(variable.name == "moving_mean" for variable in model.variables):
            images = _first_images(make_batches, model)
            with measuring_statistics():
                model.backbone(model.backbone.normalize(images))
            print(f"the statistics of its batch normalisations are those of {len(images)} training images.")
    elif init == "imagenet":
        print(weights.load_imagenet(model, seed=seed))
    elif init == "hed":
        print(weights.load_hed(model))
    elif os.path.isdir(init):
        known = workdirs.read_config(init).info.class_names
        classifier = [(v, v.numpy()) for v in model.variable_groups().get(model.head.classifier, [])]
        print(weights.load_weights(model, os.path.join(init, workdirs.WEIGHTS_FILE)))
        if tuple(known) != tuple(class_names) and len(known) == len(class_names):
            for variable, fresh in classifier:
                variable.assign(fresh)
            print(f"the classifier starts at random: {init} was trained for other classes, {', '.join(known)}.")
    else:
        print(weights.load_weights(model, init, seed))


def _first_images(make_batches: MakeBatches, model: DeepLab) -> tf.Tensor:
    """Returns the first crops of the training, float32 [n, H, W, 3], RGB 0..255."""
    batches = make_batches(start_step=0, pipeline_index=0, num_pipelines=1, replicas=1, mean_rgb=model.mean_rgb)
    crops = batches.map(lambda batch: batch["image"]).unbatch().unbatch()  # of [b, I, H, W, 3]
    return next(iter(crops.batch(_IMAGES_FOR_STATISTICS)))


class _Update(NamedTuple):
    """An update of the weights that was started; on a GPU it may be at work still.

    Attributes:
        step: its number, from 1.
        batch: what it learns from.
        learning_rate: float32 [].
        terms: its losses, float32 [terms].
        started: when, in seconds of `time.monotonic`.
    """

    step: int
    batch: dict[str, Any]
    learning_rate: tf.Tensor
    terms: tf.Tensor
    started: float


class _Loop:
    """The updates, and all that happens between two of them.

    Args:
        config: with train.save_every and train.eval_every filled in.
        workdir: for TensorBoard's entries.
        strategy: of the devices.
        model: the network.
        optimizer: built.
        checkpoints: restored.
        validation: of the chief, where there is a split to validate on.
        validates: whether there is one; the same in all processes.
    """

    def __init__(
        self,
        config: Config,
        workdir: str,
        strategy: tf.distribute.Strategy,
        model: DeepLab,
        optimizer: keras.optimizers.Optimizer,
        checkpoints: Checkpoints,
        validation: Validation | None,
        validates: bool,
    ) -> None:
        self._config = config
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._checkpoints = checkpoints
        self._validation = validation
        self._validates = validates
        self._any_process = devices.any_process(strategy)
        self._chief = devices.is_chief(strategy)
        settings = config.train
        self._progress = Progress(
            checkpoints.step, settings.iterations, settings.batch_size * settings.iter_size, silent=not self._chief
        )
        self._workdir = workdir
        self._summaries = Summaries(workdir) if self._chief else None
        self._loss_file: LossFile | None = None

    def run(self, batches: Iterator[dict[str, Any]]) -> str:
        """Trains from the step of the checkpoints to the end.

        Returns:
            What the last losses say of the training, "" where they say nothing.

        Raises:
            UserError: it has diverged.
        """
        settings = self._config.train
        step, names = build_train_step(
            self._model,
            self._optimizer,
            self._strategy,
            self._config.info.ignore_label,
            settings.class_weights,
            settings.xla,
        )
        self._watch = self._watch_of(len(names))
        if self._chief:
            self._loss_file = LossFile(self._workdir, self._checkpoints.step, names)
        with stop_signals.collect() as stopped, self._closing():
            done = self._checkpoints.step
            # Where the last process was stopped in the middle of a validation, or had seen enough.
            enough = self._validate(done, stopped, saved=True)
            running: _Update | None = None
            while done < settings.iterations and not enough:
                done += 1
                learning_rate, batch = self._optimizer.learning_rate, next(batches)
                started = _Update(done, batch, learning_rate, step(batch), time.monotonic())
                if running:  # a GPU that has computed its losses finds the next update waiting
                    self._report(running, names)
                running = started
                stopping = self._any_process(bool(stopped))
                saving = done % settings.save_every == 0 or done == settings.iterations or stopping
                if saving or any(done % every == 0 for every in (settings.summary_every, settings.eval_every)):
                    self._report(running, names)
                    running = None
                if saving:
                    self._save(done)
                if stopping:
                    self._stop(done, stopped)
                enough = self._validate(done, stopped, saved=saving)
            if stopped:
                self._stop(done, stopped)
            if self._watch.diverged:
                self._diverged(f"the loss is {self._watch.last:.4g} at the end, step {done}", done)
        if self._chief and self._watch.sane:
            self._checkpoints.settle(lambda step: True, self._watch.lowest)
        return self._watch.verdict()

    def _watch_of(self, num_terms: int) -> LossWatch:
        guessing = num_terms * math.log(self._config.info.num_classes)
        # A resumed run without a usual loss, of a few steps or of an earlier version, has learned something too.
        known = self._checkpoints.usual_loss
        usual = guessing if known is None and self._checkpoints.step else known
        settings = self._config.train
        return LossWatch(guessing, usual, min(PROBATION, settings.save_every * settings.keep_checkpoints))

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._progress.close()
            if self._loss_file:
                self._loss_file.close()
                self._draw_curves()
            if self._summaries:
                self._summaries.close()

    def _report(self, update: _Update, names: Sequence[str]) -> None:
        """Waits for an update, and tells of it.

        Raises:
            UserError: its loss is not finite.
        """
        done, terms, learning_rate = update.step, update.terms.numpy(), float(update.learning_rate)
        loss = float(terms.sum())
        if not math.isfinite(loss):
            self._diverged(f"the loss is {loss} at step {done}", done)
        self._progress.update(done, loss, learning_rate, update.started)
        if self._loss_file:
            self._loss_file.add(done, learning_rate, terms.tolist())
        self._follow(done, loss)
        every, last = self._config.train.summary_every, done == self._config.train.iterations
        if not self._summaries:
            return
        if done % every == 0 or last:
            scalars = {f"loss/{name}": float(term) for name, term in zip(names, terms, strict=True)}
            scalars |= {
                "loss/total": sum(scalars.values()),
                "learning_rate": learning_rate,
                "images_per_second": self._progress.images_per_second,
            }
            self._summaries.scalars(done, scalars)
        if not self._validates and (done % (10 * every) == 0 or last):  # else pictures of the validation say more
            picture = training_picture(self._model, update.batch, self._config.info)
            self._summaries.picture(done, "training/image_truth_network", picture)

    def _follow(self, done: int, loss: float) -> None:
        """Says what is to be said of a loss, and which checkpoint it shows to be good."""
        before = self._watch.diverged
        said = self._watch.add(done, loss)
        if said:
            self._progress.say(said)
        if self._chief:
            if self._watch.diverged != before:
                self._checkpoints.note_divergence(done if self._watch.diverged else None)
            self._checkpoints.settle(self._watch.confirms, self._watch.lowest)

    def _diverged(self, what: str, step: int) -> NoReturn:
        if self._chief and not self._watch.diverged:
            self._checkpoints.note_divergence(step)
        raise UserError(f"{what}; {self._checkpoints.advice() if self._chief else 'the chief says how to go on.'}")

    def _save(self, done: int) -> None:
        if self._watch.diverged:
            self._progress.say(f"step {done}: no checkpoint, for the training has diverged.")
            return
        # Every process looks, so that all stop with the same words.
        if not self._checkpoints.are_finite():
            self._diverged(f"weights are no longer finite at step {done}", done)
        if self._chief:
            if self._loss_file:
                self._loss_file.flush()
            self._checkpoints.save(done)

    def _draw_curves(self) -> None:
        try:
            scores = self._validation.scores if self._validation else {}
            path = os.path.join(self._workdir, curves.CURVES_FILE)
            curves.draw(path, loss_file.read(self._workdir), scores, self._config.info)
        except (OSError, UserError) as error:
            self._progress.say(f"no {curves.CURVES_FILE}: {files.reason(error)}")

    def _validate(self, done: int, stopped: Sequence[signal.Signals], saved: bool) -> bool:
        """Validates where it is time; the other processes wait for the chief.

        Args:
            done: the last update.
            stopped: signals; after one of them the training stops here, so that the next process validates.
            saved: whether there is a checkpoint of this update.

        Returns:
            Whether the training is to end early.
        """
        settings = self._config.train
        if not self._validates or done == 0 or (done % settings.eval_every and done != settings.iterations):
            return False
        if self._validation and not self._validation.has(done):
            with averaged(self._model, self._optimizer):
                miou = self._validation.run(self._model, done, stopped)
            if miou is not None and self._summaries:
                self._progress.say(self._validation.describe(done))
                self._summaries.scalars(done, self._validation.scalars(done))
                picture = self._validation.picture()
                if picture is not None:
                    self._summaries.picture(done, "validation/image_truth_network", picture)
                self._draw_curves()
        stopping = self._any_process(bool(stopped))
        enough = False
        if settings.patience and done < settings.iterations:
            idle = self._validation.validations_since_best(done) if self._validation else 0
            enough = self._any_process(idle >= settings.patience)
        if (stopping or enough) and not saved:
            self._save(done)
        if stopping:
            self._stop(done, stopped)
        if enough:
            self._progress.say(
                f"step {done}  ends the training: no better mIoU in {settings.patience} validations "
                f"(train.patience). The weights of the best are {workdirs.BEST_WEIGHTS_FILE}; --best takes them."
            )
        return enough

    def _stop(self, done: int, stopped: Sequence[signal.Signals]) -> NoReturn:
        self._progress.close()
        by = stopped[0].name if stopped else "another process"
        if self._watch.diverged:
            saved = f"not saved: {self._checkpoints.advice() if self._chief else 'the training has diverged.'}"
        else:
            saved = "saved; the same command resumes."
        print(f"stopped by {by} after step {done}, {saved}", file=sys.stderr)
        sys.exit(128 + (stopped[0] if stopped else signal.SIGTERM))
