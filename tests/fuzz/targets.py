"""What can be damaged: sound input, how it is damaged, and how it is read.

`check` gives True where the input is taken, and False where a UserError refuses it. Anything else that it raises is a
finding: another exception, or an answer that is not right.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import h5py
import numpy as np
import tensorflow as tf
from PIL import Image

from datasets import pipeline
from datasets.quality import statistics
from datasets.raw import files as raw_files
from datasets.raw.masks import Colour
from datasets.source import Example, Source
from datasets.sources import folder
from datasets.stored import manifest, records, tfrecord
from deeplab_tf import config as configs
from deeplab_tf import workdir
from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation import protocol
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export.description import Description
from deeplab_tf.export.saved_model import export_saved_model, load_saved_model
from deeplab_tf.export.tflite import load_tflite
from deeplab_tf.weights import load_weights
from deeplab_tf.weights.readers.keras_h5 import KerasFile
from tests import caffe_files, torch_files
from tests.datasets.converted import write_examples
from tests.fuzz.damage import damage_bytes, damage_json, damage_text
from tests.tiny import tiny_network

INFO = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3), split_sizes=(("train", 3),))
CONFIG = dataclasses.replace(EXPERIMENTS["resnet101_aspp_msc"], dataset=INFO)


class Target(NamedTuple):
    """Something that is read.

    Attributes:
        corpus: gives sound input; it may write to the folder, which `check` gets too.
        damage: makes other input of it.
        check: reads input, see above.
        slow: a case takes a second, too long for the fast tests.
    """

    corpus: Callable[[Path], list[bytes]]
    damage: Callable[[bytes, Random], bytes]
    check: Callable[[bytes, Path], bool]
    slow: bool = False


def refuses(read: Callable[[], Any]) -> bool:
    """Says whether a UserError, of one short line, refuses the input."""
    try:
        read()
    except UserError as error:
        line = " ".join(str(error).split())
        assert 10 < len(line) < 6000, line
        return True
    return False


# Images and masks

_Kind = tuple[Image.Image, str, dict[str, Any]]  # an image, its file format, and options of that


def _encoded(kind: _Kind) -> bytes:
    image, file_format, options = kind
    encoded = io.BytesIO()
    image.save(encoded, file_format, **options)
    return encoded.getvalue()


def _pictures(_: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8))
    kinds: list[_Kind] = [
        (colours, "JPEG", {}),
        (colours, "JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(20)}),
        (colours.convert("CMYK"), "JPEG", {}),
        (colours, "PNG", {}),
        (colours.convert("P"), "PNG", {"transparency": 3}),
        (colours.convert("RGBA"), "PNG", {}),
        (Image.fromarray(rng.integers(0, 2**16, (9, 9), np.uint16)), "PNG", {}),
        (colours, "BMP", {}),
        (colours, "GIF", {}),
        (colours, "TIFF", {"compression": "tiff_lzw"}),
        (colours, "TIFF", {"compression": "jpeg"}),
        (colours, "WEBP", {"lossless": True}),
        (colours, "PPM", {}),
    ]
    return [*map(_encoded, kinds), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"]


def _check_image(data: bytes, folder: Path) -> bool:
    path = folder / "image"
    path.write_bytes(data)
    stored: list[bytes] = []
    if refuses(lambda: stored.append(raw_files.read_image(path))):
        return False
    width, height = raw_files.read_size(path)
    # What is taken now must not fail in training.
    assert tfrecord.decode_image(tf.constant(stored[0])).shape == (height, width, 3)
    return True


def _masks(_: Path) -> list[bytes]:
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (9, 14))
    palette = Image.fromarray(labels)
    palette.putpalette([level for colour in pascal_palette(256) for level in colour])
    kinds: list[_Kind] = [
        (palette, "PNG", {}),
        (Image.fromarray(labels), "PNG", {}),
        (Image.fromarray(labels % 2 * 255).convert("1"), "PNG", {}),
        (Image.fromarray(labels.astype(np.uint16)), "PNG", {}),
        (Image.fromarray(labels), "TIFF", {}),
        (palette.convert("RGB"), "PNG", {}),
        (palette, "GIF", {}),
    ]
    return list(map(_encoded, kinds))


def _check_mask(data: bytes, folder: Path) -> bool:
    path = folder / "mask.png"
    path.write_bytes(data)
    taken = [_check_mask_of(path, colours) for colours in (None, {c: k for k, c in enumerate(pascal_palette(3))})]
    return any(taken)


def _check_mask_of(path: Path, colours: dict[Colour, int] | None) -> bool:
    labels: list[np.ndarray] = []
    if refuses(lambda: labels.append(raw_files.read_mask(path, 3, colours=colours))):
        return False
    assert labels[0].dtype == np.uint8 and labels[0].ndim == 2 and set(np.unique(labels[0])) <= {0, 1, 2, 255}
    return True


# Records and manifests


def _examples() -> list[Example]:
    rng = np.random.default_rng(0)
    found = []
    for index in range(3):
        encoded = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8)).save(encoded, "PNG")
        found.append(Example(f"id{index}", encoded.getvalue(), rng.choice(np.array([0, 2, 255], np.uint8), (6, 7))))
    return found


def _stored(folder: Path) -> Path:
    data = folder / "data"
    if not data.exists():
        write_examples(_examples(), INFO, "train", data)
    return data


def _shard(folder: Path) -> Path:
    return next(_stored(folder).glob("*.tfrecord"))


def _read_all(data: Path, split: str, skipped: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    described = manifest.read_manifest(data, check_sizes=not skipped)
    with tfrecord.naming_damage(described, split):
        yield from pipeline.evaluation_examples(data, split, skipped).as_numpy_iterator()


def _check_frames(data: bytes, folder: Path) -> bool:
    """A shard whose bytes are damaged: what is damaged is found, and the rest read as it was."""
    shard = _shard(folder)
    sound = (folder / "sound").read_bytes()
    shard.write_bytes(data)
    (file,) = manifest.load_manifest(shard.parent).split("train").files
    ends = np.cumsum((0, *file.record_bytes)).tolist()
    damaged = {i for i in range(3) if data[ends[i] : ends[i + 1]] != sound[ends[i] : ends[i + 1]]}
    assert {number for number, _ in records.find_damage(shard, file.record_bytes)} == damaged
    if len(damaged) < 3 and (damaged or len(data) == len(sound)):
        rest, _ = tfrecord.skip_damaged(shard.parent, "train")
        skipped = rest.split("train").skipped
        assert set(skipped) == damaged
        for (image_id, image, labels), number in zip(
            _read_all(shard.parent, "train", skipped), sorted({0, 1, 2} - damaged), strict=True
        ):
            example = _examples()[number]
            assert image_id.decode() == example.image_id and image.shape == (6, 7, 3)
            np.testing.assert_array_equal(labels, example.labels)
    # Without --skip_damaged: all of them, or one line.
    refused = refuses(lambda: list(_read_all(shard.parent, "train")))
    assert refused == bool(damaged) or len(data) != len(sound)
    return not refused


def _frames_corpus(folder: Path) -> list[bytes]:
    data = _shard(folder).read_bytes()
    (folder / "sound").write_bytes(data)
    return [data]


def _check_record(payload: bytes, folder: Path) -> bool:
    """A record whose checksums are right and whose content is damaged."""
    data = folder / "one"
    data.mkdir(exist_ok=True)
    framed = records.frame(payload)
    (data / "train-00000-of-00001.tfrecord").write_bytes(framed)
    file = manifest.ShardFile("train-00000-of-00001.tfrecord", "", (len(framed),))
    manifest.write_manifest(data, INFO, {"train": manifest.SplitManifest("train", True, ("id0",), (file,))})
    described = manifest.read_manifest(data)
    refused = refuses(lambda: statistics.read_example(described, "train", 0))
    refused |= refuses(lambda: statistics.measure(described, "train"))
    return not (refuses(lambda: list(_read_all(data, "train"))) or refused)


def _check_manifest(text: bytes, folder: Path) -> bool:
    data = _stored(folder)
    (data / manifest.MANIFEST).write_bytes(text)
    found: list[manifest.Manifest] = []
    if refuses(lambda: found.append(manifest.read_manifest(data))):
        return False
    for name, split in found[0].splits.items():
        for file in split.files:
            assert (data / file.name).resolve().parent == data.resolve()
        if split.count:
            split.record_places()
            split.image_hashes()
            if split.has_labels:
                refuses(lambda name=name: list(_read_all(data, name)))
            refuses(lambda name=name: tfrecord.skip_damaged(data, name))
    return True


# Configurations


def _config_corpus(folder: Path) -> list[bytes]:
    return [json.dumps({**CONFIG.to_json(), "run": {"split": "train"}, "earlier_runs": []}).encode()]


def _check_config(text: bytes, folder: Path) -> bool:
    (folder / workdir.CONFIG_FILE).write_bytes(text)
    found: list[Config] = []
    run = workdir.read_run(str(folder))
    if refuses(lambda: found.append(workdir.read_config(str(folder)))):
        return False
    assert Config.from_json(json.loads(json.dumps(found[0].to_json(), allow_nan=False))) == found[0]
    if found[0].dataset is not None:
        refuses(lambda: workdir.check_workdir(str(folder), found[0], run))
        protocol.describe_protocol(found[0], crf=True, crf_backend="tf", absent_as_zero=False)
        refuses(found[0].check_class_weights)
    return True


def _settings(_: Path) -> list[bytes]:
    lines = []
    for section in configs.SECTIONS:
        for name, value in dataclasses.asdict(getattr(CONFIG, section)).items():
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
            lines.append(f"{section}.{name}={shown}".encode())
    return lines


def _check_setting(data: bytes, _: Path) -> bool:
    changed: list[Config] = []
    text = data.decode(errors="surrogateescape")
    if refuses(lambda: changed.append(configs.override(CONFIG, text.split("\n")))):
        return False
    written = json.dumps(changed[0].to_json(), allow_nan=False)
    assert Config.from_json(json.loads(written)) == changed[0]
    return True


def _description_corpus(_: Path) -> list[bytes]:
    description = Description(CONFIG, (1.0, 2.0, 3.5), crf=True, size=(33, None), bytes_per_pixel=2048.5)
    return [description.to_json().encode()]


def _check_description(text: bytes, _: Path) -> bool:
    try:
        description = Description.from_json(text.decode())
    except ValueError:  # UnicodeDecodeError is one
        return False
    assert Description.from_json(description.to_json()) == description
    return True


def _check_list(text: bytes, root: Path) -> bool:
    """classes.txt and a list of stems of one's own images."""
    (root / "images").mkdir(exist_ok=True)
    (root / "splits").mkdir(exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    (root / "images" / "a.png").write_bytes(_examples()[0].image)
    (root / "masks" / "a.png").write_bytes(_examples()[0].image)
    for path in (root / "classes.txt", root / "splits" / "train.txt"):
        path.write_bytes(text)
    source = Source(root=str(root))
    refuses(lambda: folder.ids(source, "train"))
    refuses(lambda: raw_files.read_ids(root / "classes.txt", "hint"))
    return not refuses(lambda: folder.info(source))


# Weights


@functools.cache
def _network() -> Any:
    return tiny_network()


def _arrays() -> dict[str, np.ndarray]:
    """The tiny network's weights under Caffe's names, kernels OIHW."""
    found = {}
    for variable in _network().variables:
        layer, leaf = variable.path.split("/")[-2:]
        value = variable.numpy()
        found[f"{layer}.{'weight' if leaf == 'kernel' else 'bias'}"] = (
            value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        )
    return found


def _npz(_: Path) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        encoded = io.BytesIO()
        save(encoded, **_arrays())
        found.append(encoded.getvalue())
    return found


def _caffemodels(folder: Path) -> list[bytes]:
    arrays = _arrays()
    names = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    layers = [
        caffe_files.Layer(name, "Convolution", (arrays[f"{name}.weight"], arrays[f"{name}.bias"])) for name in names
    ]
    found = []
    for form in ({}, {"v1": True}, {"legacy_shapes": True}, {"packed": False}, {"double": True}):
        caffe_files.write(folder / "net.caffemodel", layers, **form)
        found.append((folder / "net.caffemodel").read_bytes())
    return found


def _state_dicts(_: Path) -> list[bytes]:
    value = {"state_dict": _arrays(), "epoch": 3, "optimizer": {"state": {0: {"step": np.array(3.0)}}}}
    return [torch_files.archive(value), torch_files.row_of_pickles(value)]


def _own_weights(folder: Path) -> list[bytes]:
    _network().save_weights(folder / "a.weights.h5")
    return [(folder / "a.weights.h5").read_bytes()]


def _keras_files(folder: Path) -> list[bytes]:
    found = []
    for dtype in (np.float32, np.float16):
        with h5py.File(folder / "b.h5", "w") as file:
            file.attrs["layer_names"] = np.array([b"block1_conv1"])
            group = file.create_group("block1_conv1")
            group.attrs["weight_names"] = np.array([b"kernel", b"bias"])
            group["kernel"], group["bias"] = np.ones((3, 3, 3, 4), dtype), np.ones(4, dtype)
        found.append((folder / "b.h5").read_bytes())
    return found


def _check_keras_file(data: bytes, folder: Path) -> bool:
    """Read as for VGG-16, the real size of whose layers would make a case take seconds."""
    path = folder / "damaged.h5"
    path.write_bytes(data)

    def read() -> None:
        with KerasFile(str(path)) as file:
            if file.layers != [layer := "block1_conv1"]:
                raise UserError(f"{path} has other layers, {file.layers}.")
            file.check(layer, [(3, 3, 3, 4), (4,)])
            arrays = [file.read(layer, index) for index in range(2)]
            assert [(array.shape, array.dtype) for array in arrays] == [((3, 3, 3, 4), np.float32), ((4,), np.float32)]

    return not refuses(read)


def _check_weights(suffix: str, data: bytes, folder: Path) -> bool:
    path = folder / f"damaged{suffix}"
    # Not over a file whose mapping may still be in use.
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    before = [variable.numpy() for variable in _network().variables]
    refused = refuses(lambda: load_weights(_network(), str(path)))
    for old, variable in zip(before, _network().variables, strict=True):
        if refused:
            np.testing.assert_array_equal(old, variable.numpy())
        assert np.isfinite(variable.numpy()).all()
        variable.assign(old)
    return not refused


def _weights(corpus: Callable[[Path], list[bytes]], suffix: str, slow: bool = False) -> Target:
    return Target(corpus, damage_bytes, functools.partial(_check_weights, suffix), slow)


# Exported models


def _descriptions_in_files(_: Path) -> list[bytes]:
    """The archive at the end of a TensorFlow Lite file, stored and compressed, without the network before it."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        encoded = io.BytesIO()
        with zipfile.ZipFile(encoded, "w", method) as archive:
            archive.writestr("deeplab.json", _description_corpus(Path())[0])
        found.append(encoded.getvalue())
    return found


def _check_tflite(data: bytes, folder: Path) -> bool:
    """Without a network all of them are refused; the archive is read before that shows."""
    path = folder / "net.tflite"
    path.write_bytes(data)
    assert refuses(lambda: load_tflite(str(path)))
    return False


def _saved_models(folder: Path) -> list[bytes]:
    path = export_saved_model(_network(), CONFIG, str(folder / "exported"), overwrite=True)
    return [Path(path, "saved_model.pb").read_bytes()]


def _check_saved_model(data: bytes, folder: Path) -> bool:
    path = folder / "exported" / "saved_model" / "1"
    (path / "saved_model.pb").write_bytes(data)
    return not refuses(lambda: load_saved_model(str(path)))


TARGETS = {
    "image": Target(_pictures, damage_bytes, _check_image),
    "mask": Target(_masks, damage_bytes, _check_mask),
    "shard": Target(_frames_corpus, damage_bytes, _check_frames),
    "record": Target(lambda _: [records.encode(example) for example in _examples()], damage_bytes, _check_record),
    "manifest": Target(
        lambda folder: [(_stored(folder) / manifest.MANIFEST).read_bytes()], damage_json, _check_manifest
    ),
    "config": Target(_config_corpus, damage_json, _check_config),
    "set": Target(_settings, damage_text, _check_setting),
    "list": Target(lambda _: [b"road 0 0 0\ncar 1 1 1\nignore 9 9 9", b"a\nb\n"], damage_text, _check_list),
    "description": Target(_description_corpus, damage_json, _check_description),
    "npz": _weights(_npz, ".npz"),
    "caffemodel": _weights(_caffemodels, ".caffemodel"),
    "pth": _weights(_state_dicts, ".pth"),
    "safetensors": _weights(lambda _: [torch_files.safetensors(_arrays())], ".safetensors"),
    "weights_h5": _weights(_own_weights, ".weights.h5", slow=True),
    "keras_h5": Target(_keras_files, damage_bytes, _check_keras_file, slow=True),
    "tflite": Target(_descriptions_in_files, damage_bytes, _check_tflite),
    "saved_model": Target(_saved_models, damage_bytes, _check_saved_model, slow=True),
}
