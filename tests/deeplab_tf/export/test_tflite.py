import dataclasses
import io
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated

from deeplab_tf.config import InferenceConfig
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import tflite
from deeplab_tf.export.compare import made_up_picture
from deeplab_tf.export.load import load_exported
from deeplab_tf.images.fit import fit_image
from deeplab_tf.inference.probabilities import predict_probabilities
from tests.tiny import tiny_network

INFO = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
CONFIG = dataclasses.replace(EXPERIMENTS["vgg16_large_fov"], dataset=INFO)
SIZE = (41, 57)


def pictures(count=2):
    return [np.roll(made_up_picture(SIZE), 9 * shift, axis=1) for shift in range(count)]


def dilated_network(**kwargs):
    model = tiny_network(**kwargs)
    for layer in model._flatten_layers():
        if hasattr(layer, "implementation"):
            layer.implementation = "dilated"
    return model


def export(model, out_dir, name="tflite", config=CONFIG, **kwargs):
    return tflite.export_tflite(model, config, str(out_dir), name, size=SIZE, pictures=pictures(), **kwargs)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A network and what was written for each format."""
    model, out = dilated_network(), tmp_path_factory.mktemp("tflite")
    yield model, {name: export(model, out, name, calibration=pictures(4)) for name in tflite.FORMATS}


def operations(path):
    interpreter = tflite.tf_lite_interpreter(
        model_path=path,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    return interpreter._get_ops_details(), interpreter.get_tensor_details()


@pytest.mark.parametrize("name", tflite.FORMATS)
def test_a_file_answers_the_labels_of_the_network(converted, name):
    model, written = converted
    labels = load_exported(written[name].path).labels_of
    least = {"tflite": 1.0, "tflite_float16": 1.0, "tflite_dynamic": 0.98, "tflite_int8": 0.97}[name]
    for picture in pictures():
        probabilities = predict_probabilities(model, picture)
        clear = np.diff(np.sort(probabilities, axis=-1)[..., -2:])[..., 0] > (1e-3 if name == "tflite" else 0.02)
        answer = labels(picture)
        assert answer.dtype == np.uint8 and len(np.unique(answer)) > 1 and clear.mean() > 0.9
        assert (answer == probabilities.argmax(-1))[clear].mean() >= least
    assert written[name].agreement >= least - 0.01
    assert os.path.getsize(written[name].path) == written[name].num_bytes


@pytest.mark.parametrize("name", ["tflite", "tflite_int8"])
def test_only_built_in_operations_are_used_and_atrous_convolutions_are_fused(converted, name):
    details, _ = operations(converted[1][name].path)
    names = {op["op_name"] for op in details}
    assert "CONV_2D" in names and "ARG_MAX" in names and "RESIZE_BILINEAR" in names
    assert not {one for one in names if one.startswith(("Flex", "CUSTOM", "SPACE_TO_BATCH", "BATCH_TO_SPACE"))}


def test_an_int8_file_computes_in_int8_and_takes_pixels_as_they_are(converted):
    path = converted[1]["tflite_int8"].path
    details, tensors = operations(path)
    by_index = {tensor["index"]: tensor for tensor in tensors}
    dtypes = {by_index[i]["dtype"] for op in details for i in op["outputs"]}
    assert np.float32 not in dtypes
    [taken] = tflite.tf_lite_interpreter(model_path=path).get_input_details()
    assert taken["dtype"] == np.uint8
    scale, zero = taken["quantization"]
    assert scale == pytest.approx(1.0, abs=1e-4) and zero == 0


@pytest.mark.parametrize("name", tflite.FORMATS)
def test_an_input_refuses_to_be_resized(converted, name):
    interpreter = tflite.tf_lite_interpreter(model_path=converted[1][name].path)
    [taken] = interpreter.get_input_details()
    interpreter.resize_tensor_input(taken["index"], [1, 33, 33, 3])
    with pytest.raises(RuntimeError, match="failed to prepare"):
        interpreter.allocate_tensors()


def test_a_file_holds_names_and_configuration(converted):
    path = converted[1]["tflite_float16"].path
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["background", "cat", "dog"]
    description = load_exported(path).description
    assert description.config == CONFIG and description.size == SIZE and not description.crf


class Table:
    """Reads a flatbuffer by the numbers of its fields."""

    def __init__(self, data, position=None):
        self.data = bytes(data)
        if position is None:
            position = int.from_bytes(self.data[:4], "little")
        self.position = position

    def at(self, number):
        table = self.position - int.from_bytes(self.data[self.position :][:4], "little", signed=True)
        size = int.from_bytes(self.data[table:][:2], "little")
        slot = 4 + 2 * number
        offset = int.from_bytes(self.data[table + slot :][:2], "little") if slot < size else 0
        return self.position + offset if offset else None

    def target(self, position):
        return position + int.from_bytes(self.data[position:][:4], "little")

    def table(self, number):
        return Table(self.data, self.target(self.at(number)))

    def vector(self, number):
        start = self.target(self.at(number))
        return start + 4, int.from_bytes(self.data[start:][:4], "little")

    def text(self, number):
        start, length = self.vector(number)
        return self.data[start : start + length].decode()

    def first(self, number):
        start, length = self.vector(number)
        assert length == 1
        return Table(self.data, self.target(start))

    def byte(self, number):
        return self.data[self.at(number)]

    def number(self, number):
        start, length = self.vector(number)
        return np.frombuffer(self.data[start : start + 4 * length], "<f4").tolist()


def metadata_of(path):
    with open(path, "rb") as file:
        model = schema_py_generated.ModelT.InitFromObj(schema_py_generated.Model.GetRootAsModel(file.read(), 0))
    [entry] = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    return bytes(model.buffers[entry.buffer].data)


@pytest.mark.parametrize("probabilities", [False, True])
def test_metadata_says_what_goes_in_and_comes_out(converted, tmp_path, probabilities):
    # By the numbers of metadata_schema.fbs; with MediaPipe's own reader it was tried by hand (docs/tflite.md).
    path = converted[1]["tflite"].path
    if probabilities:
        path = export(converted[0], tmp_path, probabilities=True).path
    data = metadata_of(path)
    assert data[4:8] == b"M001"
    graph = Table(data).first(3)
    taken, given, custom = graph.first(2), graph.first(3), graph.first(9)
    assert taken.table(3).byte(0) == 2 and taken.table(3).table(1).byte(0) == 1  # an image, RGB
    normalization = taken.first(4)
    assert normalization.byte(0) == 1 and normalization.table(1).number(0) == [0.0]
    assert normalization.table(1).number(1) == [1.0] and taken.table(5).number(0) == [255.0]
    assert given.text(0) == ("probabilities" if probabilities else "labels")
    listed = given.first(6)
    assert listed.text(0) == "labels.txt" and listed.byte(2) == (2 if probabilities else 3)
    start, length = custom.vector(1)
    assert custom.text(0) == "SEGMENTER_METADATA" and start % 16 == 0 and data[start : start + length][4:8] == b"V001"


@pytest.mark.parametrize("name", ["tflite", "tflite_int8"])
def test_a_file_may_give_probabilities(converted, tmp_path, name):
    model = converted[0]
    written = export(model, tmp_path, name, calibration=pictures(4), probabilities=True)
    exported = load_exported(written.path)
    for picture in pictures():
        probabilities, wanted = exported.probabilities_of(picture), predict_probabilities(model, picture)
        assert probabilities.dtype == np.float32 and probabilities.shape == (*SIZE, 3)
        np.testing.assert_allclose(probabilities, wanted, atol=1e-4 if name == "tflite" else 0.15)
        np.testing.assert_array_equal(exported.labels_of(picture), probabilities.argmax(-1))


def test_images_of_other_sizes_are_made_to_fit(converted):
    model, written = converted
    labels = load_exported(written["tflite"].path).labels_of
    small = pictures()[0][:20, :30]
    padded, inside = fit_image(small, SIZE, model.mean_rgb)
    assert inside == (20, 30)
    wanted = predict_probabilities(model, padded).argmax(-1)[:20, :30]
    assert (labels(small) == wanted).mean() > 0.999
    assert labels(np.zeros((100, 90, 3), np.uint8)).shape == (100, 90)


def test_what_the_interpreter_says_of_its_delegates_is_not_shown(converted, monkeypatch, capfd):
    class Noisy(tf.lite.Interpreter):
        def __init__(self, **options):
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
            super().__init__(**options)

        def allocate_tensors(self):
            os.write(2, b"INFO: allocated.\n")
            super().allocate_tensors()

    monkeypatch.setattr(tf.lite, "Interpreter", Noisy)
    _, written = converted
    load_exported(written["tflite"].path).labels_of(made_up_picture(SIZE))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["tflite", "tflite_int8"])
def test_mirrored_images_can_be_inside(tmp_path, name):
    model = dilated_network(scales=(1.0, 0.5))
    config, picture = dataclasses.replace(CONFIG, inference=InferenceConfig(flip=True)), made_up_picture((33, 49))
    written = tflite.export_tflite(
        model, config, str(tmp_path), name, size=(33, 49), pictures=[picture], calibration=[picture]
    )
    assert written.agreement > (0.999 if name == "tflite" else 0.95)


def test_a_file_that_computes_something_else_is_never_written(tmp_path, monkeypatch):
    other = dilated_network(seed=2)
    convert = tflite._convert
    monkeypatch.setattr(tflite, "_convert", lambda _, *arguments: convert(other, *arguments))
    with pytest.raises(UserError, match=r"tflite was not written: .* % of the pixels"):
        export(dilated_network(seed=1), tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(tmp_path):
    model = dilated_network()
    path = tmp_path / "vgg16_large_fov.tflite"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists; add --overwrite"):
        export(model, tmp_path)
    assert path.read_text() == "mine"
    export(model, tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["vgg16_large_fov.tflite"] and path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((None, None), "add --size"),
        ((512, 513), "got 512; the nearest are 505 and 513"),
        ((5, 9), "got 5; the nearest are 9"),
        ((513, 40), "got 40; the nearest are 33 and 41"),
    ],
)
def test_a_size_that_would_be_padded_is_refused_with_the_nearest(size, says):
    with pytest.raises(UserError, match=says):
        tflite.check_size(size, 8)
    assert tflite.check_size((9, 513), 8) == (9, 513)


def test_int8_without_pictures_and_tiles_are_refused(tmp_path):
    model = dilated_network()
    with pytest.raises(UserError, match="tflite_int8 needs images"):
        export(model, tmp_path, "tflite_int8")
    with pytest.raises(UserError, match="no tiles inside"):
        export(model, tmp_path, config=dataclasses.replace(CONFIG, inference=InferenceConfig(tile=33, tile_overlap=8)))


def archive_that_points_behind_its_end():
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("deeplab.json", "{}")
    content = bytearray(written.getvalue())
    content[28:30] = b"\xff\xff"  # how much of the first header lies before the data
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3 and nothing behind it", "a file without its archive", archive_that_points_behind_its_end()],
    ids=["empty", "nothing behind", "no archive", "behind the end"],
)
def test_a_file_that_is_damaged_or_of_another_program_is_a_user_error(converted, tmp_path, content):
    path = tmp_path / "other.tflite"
    if isinstance(content, str):
        with open(converted[1]["tflite"].path, "rb") as file:
            content = file.read()[:2000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not a TensorFlow Lite file of export\.py, or is damaged"):
        load_exported(str(path))


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.tflite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deeplab.json", b" " * 50_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"bomb\.tflite is not .* deeplab\.json has 50000000 bytes"):
        load_exported(str(path))
