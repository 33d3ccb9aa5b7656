import concurrent.futures
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import config_pb2

from datasets.stored import tfrecord
from deeplab_tf.config import InferenceConfig
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import saved_model
from deeplab_tf.export.description import Description
from deeplab_tf.export.saved_model import export_saved_model, is_saved_model, load_saved_model
from deeplab_tf.images.decode import decode_image
from deeplab_tf.inference.probabilities import bytes_per_pixel, predict_probabilities
from deeplab_tf.networks.deeplab import build_network
from tests.processes import resident_bytes
from tests.tiny import tiny_network

INFO = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
CONFIG = dataclasses.replace(EXPERIMENTS["vgg16_large_fov"], dataset=INFO)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_picture(height, width, seed=0):
    """Soft patches of colour: something that a CRF can group."""
    return cv2.resize(picture(4, 5, seed), (width, height), interpolation=cv2.INTER_LINEAR)


def png(image):
    return tf.io.encode_png(image).numpy()


def pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)))


def folder_bytes(path):
    return sum(os.path.getsize(os.path.join(path, name)) for name in os.listdir(path))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(a VGG-16 LargeFOV for three classes, the path of its SavedModel)."""
    keras.utils.set_random_seed(0)
    model = build_network(CONFIG.model, INFO.num_classes)
    # Scores of mean 0 and deviation 3: decided nearly everywhere, and not the same class everywhere.
    scores = model(picture(41, 73)[np.newaxis].astype(np.float32))
    model.head.fc8.kernel.assign(model.head.fc8.kernel * (3 / np.std(scores, axis=(0, 1, 2))))
    scores = model(picture(41, 73)[np.newaxis].astype(np.float32))
    model.head.fc8.bias.assign(-np.mean(scores, axis=(0, 1, 2)))
    out = tmp_path_factory.mktemp("export")
    yield model, export_saved_model(model, CONFIG, str(out))


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory):
    return export_saved_model(tiny_network(), CONFIG, str(tmp_path_factory.mktemp("tiny")))


ELSEWHERE = """
import sys
sys.modules["deeplab_tf"] = None  # importing it would fail
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
answer = model.signatures["serving_default"](images=tf.constant(images))
probabilities = model.signatures["probabilities"](images=tf.constant(images))["probabilities"]
described = model.signatures["metadata"]()["config"].numpy().decode()
answer = {name: value.numpy() for name, value in answer.items()}
np.savez(sys.argv[3], **answer, probabilities=probabilities, config=described)
"""


def test_a_process_with_only_tensorflow_gives_the_same_labels(exported, tmp_path):
    model, path = exported
    images = np.stack([picture(43, 70, seed) for seed in range(2)])
    np.save(tmp_path / "images.npy", images)
    # -I: neither the working folder nor PYTHONPATH is looked at.
    subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, path, tmp_path / "images.npy", tmp_path / "answer.npz"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=240,
    )
    ours = np.stack([predict_probabilities(model, image) for image in images])
    with np.load(tmp_path / "answer.npz") as answer:
        assert answer["labels"].dtype == np.uint8 and answer["labels"].shape == (2, 43, 70)
        np.testing.assert_allclose(answer["probabilities"], ours, atol=1e-4)
        np.testing.assert_allclose(answer["confidence"], ours.max(-1), atol=1e-4)
        # Where two classes are equally probable to the last bits, rounding may decide.
        clear = np.diff(np.sort(ours, axis=-1)[..., -2:])[..., 0] > 1e-3
        assert clear.mean() > 0.98 and len(np.unique(ours.argmax(-1)[clear])) > 1
        np.testing.assert_array_equal(answer["labels"][clear], ours.argmax(-1)[clear])
        described = json.loads(str(answer["config"]))
    assert described["dataset"]["class_names"] == ["background", "cat", "dog"]
    assert described["experiment"] == "vgg16_large_fov" and described["model"]["rates"] == [12]


def test_a_loaded_export_knows_its_configuration_and_predicts_any_size(exported):
    model, path = exported
    assert is_saved_model(path) and not is_saved_model(os.path.dirname(path))
    assert path.endswith(os.path.join("saved_model", "1"))
    description, _, predict, _ = load_saved_model(path)
    assert description == Description(CONFIG, model.mean_rgb, bytes_per_pixel=bytes_per_pixel(model, CONFIG.inference))
    assert description.size == (None, None) and not description.crf
    for size in ((1, 1), (20, 33)):
        image = picture(*size)
        probabilities = predict(image)
        assert probabilities.shape == (*size, 3) and probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, predict_probabilities(model, image), atol=1e-4)


def test_an_existing_export_is_kept_unless_it_may_be_overwritten(tmp_path):
    model, other = tiny_network(seed=1), tiny_network(seed=2)
    image = picture(30, 41)
    path = export_saved_model(model, CONFIG, str(tmp_path))
    with pytest.raises(UserError, match=r"saved_model/1 exists; add --overwrite"):
        export_saved_model(other, CONFIG, str(tmp_path))
    np.testing.assert_allclose(
        load_saved_model(path).probabilities_of(image), predict_probabilities(model, image), atol=1e-5
    )
    assert export_saved_model(other, CONFIG, str(tmp_path), overwrite=True) == path
    np.testing.assert_allclose(
        load_saved_model(path).probabilities_of(image), predict_probabilities(other, image), atol=1e-5
    )
    assert os.listdir(tmp_path) == ["saved_model"]  # nothing half-written is left


def test_the_mirrored_image_and_several_scales_are_inside_the_export(tmp_path):
    model = tiny_network(scales=(1.0, 0.75, 0.5))
    image = picture(30, 71)
    config = dataclasses.replace(CONFIG, inference=InferenceConfig(flip=True))
    predict = load_saved_model(export_saved_model(model, config, str(tmp_path))).probabilities_of
    np.testing.assert_allclose(predict(image), predict_probabilities(model, image, config.inference), atol=1e-5)
    assert np.abs(predict(image) - predict_probabilities(model, image)).max() > 1e-3


def test_tiles_are_inside_the_export(tmp_path):
    model = tiny_network()
    config = dataclasses.replace(CONFIG, inference=InferenceConfig(tile=33, tile_overlap=17))
    predict = load_saved_model(export_saved_model(model, config, str(tmp_path))).probabilities_of
    image = picture(50, 71)
    np.testing.assert_allclose(predict(image), predict_probabilities(model, image, config.inference), atol=1e-5)


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path, monkeypatch):
    model = tiny_network()
    path = export_saved_model(model, CONFIG, str(tmp_path))
    before = sorted(os.listdir(path))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved_model, "write_warm_up", fail)
    with pytest.raises(UserError, match="No space left on device"):
        export_saved_model(model, CONFIG, str(tmp_path), overwrite=True)
    assert sorted(os.listdir(path)) == before and os.listdir(os.path.dirname(path)) == ["1"]


def test_a_fixed_size_is_the_only_one_that_is_taken(tmp_path):
    model = tiny_network()
    path = export_saved_model(model, CONFIG, str(tmp_path), size=(30, 41))  # padded inside, to 33x41
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    assert signature.structured_input_signature[1]["images"].shape == (None, 30, 41, 3)
    assert signature.structured_outputs["labels"].shape == (None, 30, 41)
    image = picture(30, 41)
    description, _, predict, _ = load_saved_model(path)
    assert description.size == (30, 41)
    np.testing.assert_allclose(predict(image), predict_probabilities(model, image), atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"height 30 and width 41; got shape\] \[1 31 41 3\]"):
        loaded.signatures["encoded"](images=tf.constant([png(picture(31, 41))]))


BAD_PIXELS = {
    "four channels": (1, 41, 57, 4),
    "no batch": (41, 57, 3),
    "no images": (0, 41, 57, 3),
    "no rows": (1, 0, 57, 3),
    "a number": (),
}


def requested(path, images, name="serving_default", output="labels"):
    """Asks as TensorFlow Serving does: the graph gets what came, and Python compares nothing beforehand."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        signature = tf.compat.v1.saved_model.loader.load(session, ["serve"], path).signature_def[name]
        feed, fetch = signature.inputs["images"].name, signature.outputs[output].name
        return session._make_callable_from_options(config_pb2.CallableOptions(feed=[feed], fetch=[fetch]))(images)[0]


@pytest.mark.parametrize("shape", BAD_PIXELS.values(), ids=BAD_PIXELS)
def test_pixels_that_are_no_images_are_refused_with_what_was_expected(tiny_export, shape):
    images = np.zeros(shape, np.uint8)
    says = re.escape("images: expected uint8 [batch, height, width, 3], RGB, height any and width any; got shape] [")
    with pytest.raises(tf.errors.InvalidArgumentError, match=says + " ".join(map(str, shape))):
        requested(tiny_export, images)
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        tf.saved_model.load(tiny_export).signatures["probabilities"](images=tf.constant(images))
    assert requested(tiny_export, np.zeros((2, 41, 57, 3), np.uint8)).shape == (2, 41, 57)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_another_type_are_refused_with_the_type_that_was_expected(tiny_export, dtype):
    images = np.zeros((1, 41, 57, 3), dtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Type mismatch: actual \w+ vs\. expect uint8"):
        requested(tiny_export, images)
    with pytest.raises(tf.errors.InvalidArgumentError, match="was expected to be a uint8 tensor"):
        tf.saved_model.load(tiny_export).signatures["probabilities"](images=tf.constant(images))


@pytest.mark.parametrize("shape", [(), (1, 1)])
@pytest.mark.parametrize("name", ["encoded", "encoded_rest"])
def test_files_that_are_no_batch_are_refused_with_what_was_expected(tiny_export, name, shape):
    files = np.full(shape, png(picture(9, 9)), object)
    output = "labels_png_bytes" if name == "encoded_rest" else "labels_png"
    says = r"images: expected string \[batch\], the bytes of JPEG or PNG files; got shape"
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        requested(tiny_export, files, name, output)
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        tf.saved_model.load(tiny_export).signatures[name](images=tf.constant(files))
    assert requested(tiny_export, files.reshape([1]), name, output).shape == (1,)


@pytest.mark.parametrize("content", [b"", b"GIF89a and so on", b"no image"])
@pytest.mark.parametrize("name", ["encoded", "encoded_rest"])
def test_bytes_that_are_no_jpeg_or_png_are_refused_with_what_was_expected(tiny_export, name, content):
    loaded = tf.saved_model.load(tiny_export)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected the bytes of a JPEG or PNG file; got other"):
        loaded.signatures[name](images=tf.constant([png(picture(9, 9)), content]))


def test_the_crf_inside_answers_like_dense_crf_after_the_network(tmp_path):
    model = tiny_network()
    crf = CrfParams(w1=3, sigma_alpha=20, sigma_beta=20, w2=2, sigma_gamma=2, iterations=3)
    config = dataclasses.replace(CONFIG, crf=crf)
    path = export_saved_model(model, config, str(tmp_path), crf=True)
    description, _, predict, _ = load_saved_model(path)
    assert description.crf and description.config.crf == crf
    images = np.stack([smooth_picture(30, 41, seed) for seed in range(2)])
    wanted = np.stack([dense_crf(image, predict_probabilities(model, image), crf) for image in images])
    before = np.stack([predict_probabilities(model, image) for image in images])
    assert np.abs(wanted - before).max() > 0.1
    np.testing.assert_allclose(np.stack([predict(image) for image in images]), wanted, atol=1e-4)
    loaded = tf.saved_model.load(path)
    answer = loaded.signatures["serving_default"](images=tf.constant(images))
    clear = np.diff(np.sort(wanted, axis=-1)[..., -2:])[..., 0] > 1e-3
    np.testing.assert_array_equal(answer["labels"].numpy()[clear], wanted.argmax(-1)[clear])
    np.testing.assert_allclose(answer["confidence"], wanted.max(-1), atol=1e-4)
    masks = loaded.signatures["encoded"](images=tf.constant([png(image) for image in images]))["labels_png"]
    for mask, labels in zip(masks.numpy(), answer["labels"].numpy(), strict=True):
        np.testing.assert_array_equal(pixels(mask), labels)


def test_encoded_images_of_different_sizes_give_masks_of_their_sizes(exported):
    model, path = exported
    signatures = tf.saved_model.load(path).signatures
    images = [picture(30, 41, 1), picture(17, 20, 2)]
    answer = signatures["encoded"](images=tf.constant([png(image) for image in images]))
    for image, mask, colours in zip(images, answer["labels_png"].numpy(), answer["colour_png"].numpy(), strict=True):
        labels = pixels(mask)
        probabilities = predict_probabilities(model, image)
        clear = np.diff(np.sort(probabilities, axis=-1)[..., -2:])[..., 0] > 1e-3
        np.testing.assert_array_equal(labels[clear], probabilities.argmax(-1)[clear])
        np.testing.assert_array_equal(pixels(colours), np.array(INFO.palette, np.uint8)[labels])
    rest = signatures["encoded_rest"](images=tf.constant([png(image) for image in images]))
    np.testing.assert_array_equal(rest["labels_png_bytes"], answer["labels_png"])
    np.testing.assert_array_equal(rest["colour_png_bytes"], answer["colour_png"])


@pytest.mark.parametrize("damaged", [b"", b"not an image", "cut png", "cut jpeg"])
def test_damaged_bytes_fail_their_request_and_no_other(exported, damaged):
    _, path = exported
    encoded = tf.saved_model.load(path).signatures["encoded"]
    whole = png(picture(30, 41))
    if damaged == "cut png":
        damaged = whole[: len(whole) // 2]
    elif damaged == "cut jpeg":
        damaged = tf.io.encode_jpeg(picture(30, 41)).numpy()[:200]
    before = encoded(images=tf.constant([whole]))["labels_png"].numpy()
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoded(images=tf.constant([damaged]))
    np.testing.assert_array_equal(encoded(images=tf.constant([whole]))["labels_png"].numpy(), before)


@pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
def test_images_are_decoded_as_the_data_sets_decode_them(encode):
    encoded = encode(smooth_picture(30, 41))
    np.testing.assert_array_equal(decode_image(encoded), tfrecord.decode_image(encoded))


def test_names_and_colours_are_files_of_the_export_too(exported):
    _, path = exported
    with open(os.path.join(path, "assets", "class_names.txt"), encoding="utf-8") as file:
        assert file.read().splitlines() == ["background", "cat", "dog"]
    with open(os.path.join(path, "assets", "palette.csv"), encoding="utf-8") as file:
        assert file.read().splitlines() == ["red,green,blue", "0,0,0", "128,0,0", "0,128,0"]
    metadata = tf.saved_model.load(path).signatures["metadata"]()
    assert metadata["class_names"].numpy().tolist() == [b"background", b"cat", b"dog"]
    np.testing.assert_array_equal(metadata["palette"], INFO.palette)


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_reduced_precision_halves_the_weights_and_keeps_the_labels(exported, tmp_path, precision):
    model, path = exported
    reduced = build_network(CONFIG.model, INFO.num_classes, precision)
    reduced.set_weights(model.get_weights())
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, precision=precision))
    smaller = export_saved_model(reduced, config, str(tmp_path))
    assert folder_bytes(os.path.join(smaller, "variables")) < 0.6 * folder_bytes(os.path.join(path, "variables"))
    image = picture(41, 57)
    description, _, predict, _ = load_saved_model(smaller)
    assert description.config.train.precision == precision
    np.testing.assert_array_equal(predict(image), predict_probabilities(reduced, image))
    wanted = predict_probabilities(model, image)
    clear = np.diff(np.sort(wanted, axis=-1)[..., -2:])[..., 0] > 0.05
    np.testing.assert_array_equal(predict(image).argmax(-1)[clear], wanted.argmax(-1)[clear])


@pytest.mark.parametrize("content", [None, b"", b"not a protocol buffer"])
def test_a_folder_that_holds_no_saved_model_is_a_user_error(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a SavedModel of export\.py, or is damaged"):
        load_saved_model(str(tmp_path))


def test_a_saved_model_of_another_program_is_a_user_error(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"is not a SavedModel of export\.py"):
        load_saved_model(str(tmp_path / "other"))


@pytest.mark.parametrize(("there", "damaged"), [(b"TopKV2", b"CopKV2"), (b"varkw", b"varkx")])
def test_a_saved_model_with_a_wrong_name_in_it_is_a_user_error(tmp_path, there, damaged):
    path = Path(export_saved_model(tiny_network(), CONFIG, str(tmp_path)), "saved_model.pb")
    content = path.read_bytes()
    assert there in content
    path.write_bytes(content.replace(there, damaged))
    with pytest.raises(UserError, match=r"is not a SavedModel of export\.py, or is damaged: \S") as refused:
        load_saved_model(str(path.parent))
    assert "\n" not in str(refused.value)


def test_an_export_without_its_variables_is_a_user_error(tmp_path):
    path = export_saved_model(tiny_network(), CONFIG, str(tmp_path))
    for name in os.listdir(os.path.join(path, "variables")):
        os.remove(os.path.join(path, "variables", name))
    with pytest.raises(UserError, match=r"is not a SavedModel of export\.py, or is damaged"):
        load_saved_model(path)


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder --out="):
        export_saved_model(tiny_network(), CONFIG, str(tmp_path / "file"))


@pytest.mark.slow
def test_a_thousand_requests_of_eight_threads_get_their_own_answers_in_constant_memory(tmp_path):
    path = export_saved_model(tiny_network(), CONFIG, str(tmp_path))
    signatures = tf.saved_model.load(path).signatures
    images = [smooth_picture(30 + 8 * (seed % 3), 41, seed) for seed in range(12)]
    wanted = [signatures["serving_default"](images=image[np.newaxis])["labels"][0].numpy() for image in images]
    sent = [png(image) for image in images]

    def ask(number):
        place = number % len(images)
        if number % 50 == 7:
            with pytest.raises(tf.errors.InvalidArgumentError):
                signatures["encoded"](images=tf.constant([sent[place][:100]]))
            return True
        if number % 2:
            answer = pixels(signatures["encoded"](images=tf.constant([sent[place]]))["labels_png"].numpy()[0])
        else:
            answer = signatures["serving_default"](images=tf.constant(images[place][np.newaxis]))["labels"][0].numpy()
        return np.array_equal(answer, wanted[place])

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))  # allocators and threads get their share
        before = resident_bytes()
        assert all(threads.map(ask, range(1000)))
    assert resident_bytes() - before < 30e6
