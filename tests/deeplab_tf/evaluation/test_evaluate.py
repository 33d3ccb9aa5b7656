import dataclasses
import html.parser
import json
import re
import weakref
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.config import InferenceConfig
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation import charts, protocol, report
from deeplab_tf.evaluation.evaluate import EXTREMES, evaluate, format_table
from deeplab_tf.evaluation.results import Result
from deeplab_tf.experiments import EXPERIMENTS
from tests.references import slow_confusion_matrix, slow_iou

INFO = DatasetInfo("toy", ("background", "cat", "dog <b>", "never"), pascal_palette(4))


def result(number, wrong=0.3, refined=True):
    rng = np.random.default_rng(number)
    shape = (40 + number, 61)
    labels = (np.indices(shape).sum(axis=0) // 12 % 3).astype(np.int32)
    network = np.where(rng.random(shape) < wrong, rng.integers(0, 3, shape), labels).astype(np.uint8)
    after = np.where(rng.random(shape) < wrong / 2, rng.integers(0, 3, shape), labels).astype(np.uint8)
    labels[:2] = 255
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    return Result(f"image_{number}", image, labels, network, after if refined else None, 0.5, 0.25 if refined else None)


def run(results, out_dir, **options):
    return evaluate(iter(results), len(results), INFO, out_dir=str(out_dir), **options)


def test_metrics_are_those_of_all_pixels_before_and_after_the_crf(tmp_path):
    results = [result(number) for number in range(7)]
    evaluation = run(results, tmp_path, with_crf=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == evaluation.metrics
    assert metrics["num_images"] == 7 and metrics["seconds_per_image"] == 0.5
    labels = np.concatenate([one.truth.ravel() for one in results])
    for index, found in enumerate((metrics, metrics["crf"])):
        predictions = np.concatenate([one.predicted[index].ravel() for one in results])
        ious = [slow_iou(labels, predictions, label) for label in range(4)]
        assert list(found["per_class_iou"].values()) == pytest.approx(ious) and ious[3] is None
        assert found["miou"] == pytest.approx(np.mean(ious[:3]))
        counts = slow_confusion_matrix(labels, predictions, 4)
        np.testing.assert_array_equal(evaluation.matrices[index], counts)
        shares = counts.sum(axis=1)[:3] / counts.sum()
        assert found["frequency_weighted_iou"] == pytest.approx(np.dot(shares, ious[:3]))
    table = format_table(metrics)
    assert "frequency-weighted IoU" in table and re.search(r"never +- +-", table)
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.size[0] > 4 * 61
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6


def test_absent_classes_count_as_zero_where_that_is_asked_for(tmp_path):
    results = [result(number, refined=False) for number in range(2)]
    left_out = run(results, tmp_path).metrics["miou"]
    assert run(results, tmp_path, absent_as_zero=True).metrics["miou"] == pytest.approx(left_out * 3 / 4)


def test_the_best_and_worst_images_are_kept_in_order_and_apart(tmp_path):
    wrong = [0.8, 0.1, 0.5, 0.3, 0.7, 0.2, 0.9, 0.4, 0.6, 0.0]
    evaluation = run([result(number, share) for number, share in enumerate(wrong)], tmp_path, with_crf=True)
    best, worst = ([one.result.image_id for one in kept] for kept in (evaluation.best, evaluation.worst))
    by_share = [f"image_{number}" for number in np.argsort(wrong)]
    assert best == by_share[:EXTREMES] and worst == by_share[: -EXTREMES - 1 : -1]
    few = run([result(number, refined=False) for number in range(5)], tmp_path)
    assert len(few.best) == EXTREMES and len(few.worst) == 1


def test_an_image_without_labels_is_neither_best_nor_worst(tmp_path):
    empty = result(0)._replace(truth=np.full((40, 61), 255, np.int32))
    evaluation = run([empty, result(1)], tmp_path, with_crf=True)
    assert [one.result.image_id for one in evaluation.best + evaluation.worst] == ["image_1"]


def test_the_trimap_is_in_the_metrics_and_drawn(tmp_path):
    metrics = run([result(0), result(1)], tmp_path, with_crf=True, with_trimap=True).metrics
    assert set(metrics["trimap"]) == {"border", "widths", "network", "crf"}
    picture = xml.etree.ElementTree.parse(tmp_path / "trimap.svg").getroot()
    assert picture.tag.endswith("svg") and "trimap" not in run([result(0, refined=False)], tmp_path / "plain").metrics


def test_unknown_score_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="--score_classes names cow"):
        run([result(0)], tmp_path, score_classes=["cow"])


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    alive, most = [], 0

    def results():
        nonlocal most
        for number in range(40):
            made = result(number % 5)
            alive.append(weakref.ref(made.image))
            most = max(most, sum(one() is not None for one in alive))
            yield made

    evaluate(results(), 40, INFO, with_crf=True, out_dir=str(tmp_path))
    # Best, worst, six for the panel, and the one in use.
    assert 2 <= most <= 2 * EXTREMES + 6 + 2


class Checker(html.parser.HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page(tmp_path, config=None, **options):
    config = dataclasses.replace(config or EXPERIMENTS["vgg16_large_fov"], dataset=INFO)
    with_crf = options.pop("with_crf", True)
    evaluation = run([result(number, refined=with_crf) for number in range(9)], tmp_path, with_crf=with_crf, **options)
    about = report.About(
        "vgg16_large_fov on toy val",
        "2026-11-26",
        "python eval.py --report",
        protocol.describe_protocol(config, crf=with_crf, crf_backend="tf", absent_as_zero=False),
        protocol.describe_training(config, {"init": "hed", "split": "train", "data_dir": "data/toy"}, ""),
        ["One <i>thing</i>."],
        ["Trained on these images."],
    )
    report.write_report(str(tmp_path / "report.html"), evaluation, config, about)
    text = (tmp_path / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    return evaluation, text, checker


@pytest.mark.parametrize("options", [{}, {"with_crf": False}, {"with_trimap": True}, {"score_classes": ["cat"]}])
def test_the_report_is_one_page_that_refers_to_nothing_else(tmp_path, options):
    evaluation, text, checker = page(tmp_path, **options)
    assert checker.references and all(value.startswith("data:image/jpeg;base64,") for value in checker.references)
    assert "@import" not in text and not re.search(r"url\(", text)
    assert not re.search(r'"https?://(?!www\.w3\.org/2000/svg)', text)
    shown = "".join(checker.text)
    last = evaluation.metrics["crf"] or evaluation.metrics
    for expected in (f"{100 * last['miou']:.2f}", "Worst images", "Best images", "dog <b>", "One <i>thing</i>."):
        assert expected in shown
    assert ("Near boundaries" in shown) == ("with_trimap" in options)
    columns = 4 if evaluation.metrics["crf"] else 3
    assert len(checker.references) == columns * len(evaluation.best + evaluation.worst)


def test_the_report_states_protocol_init_and_warnings(tmp_path):
    asked = InferenceConfig(flip=True, tile=513, pad_to=600)
    config = dataclasses.replace(EXPERIMENTS["resnet101_aspp_msc"], inference=asked)
    shown = "".join(page(tmp_path, config)[2].text)
    for expected in (
        "Trained on these images.",
        "1, 0.75, 0.5, fused by maximum",
        "513 pixels, sharing 128 or more",
        "averaged in",
        "at least 600 pixels",
        "w1 4, sigma_alpha 67",
        "hed",
        "train of data/toy",
    ):
        assert expected in shown


def test_differences_from_the_paper_come_from_the_settings():
    voc = DatasetInfo("voc12", ("background",), pascal_palette(1))
    faithful = dataclasses.replace(EXPERIMENTS["vgg16_aspp_l"], dataset=voc, inference=InferenceConfig(pad_to=513))
    given = {"run": {"init": "imagenet"}, "weights": "", "crf": False, "absent_as_zero": True, "score_classes": []}
    assert protocol.differences_from_the_paper(faithful, **given) == []
    other = dataclasses.replace(
        faithful,
        dataset=INFO,
        train=dataclasses.replace(faithful.train, iterations=7, save_every=3),
        inference=InferenceConfig(flip=True),
    )
    given |= {"run": {"init": "hed"}, "crf": True, "absent_as_zero": False, "score_classes": ["cat"]}
    found = "\n".join(protocol.differences_from_the_paper(other, **given))
    for expected in ("toy, is not one", "started from hed", "iterations is 7 instead of 20000", "mirrored", "513"):
        assert expected in found
    assert "save_every" not in found and "Only cat" in found and "normalised symmetrically" in found
    assert "leaves out labels" in found


def test_the_x_axis_of_a_chart_has_round_numbers_over_its_whole_range():
    def shown(xs):
        text = charts.line_chart(xs, [charts.Line("a", [1.0] * len(xs))], "x", "y")
        return [
            element.text for element in xml.etree.ElementTree.fromstring(text).iter() if element.get("y") == "282.0"
        ]

    assert shown([0.033, 0.13, 1.05, 2.1]) == ["0.5", "1", "1.5", "2"]
    assert shown([4, 8, 16, 64]) == ["4", "8", "16", "64"]
    assert shown(list(range(1, 41))) == ["1", *map(str, range(5, 41, 5))]


def test_a_chart_has_a_line_per_answer_with_gaps_where_nothing_is_known():
    text = charts.line_chart([1, 2, 3], [charts.Line("a < b", [1.0, None, 3.0]), charts.Line("c", [2.0] * 3)], "x", "y")
    root = xml.etree.ElementTree.fromstring(text)
    paths = [one.get("d") for one in root.iter("{http://www.w3.org/2000/svg}path") if "key" not in one.get("class")]
    assert [path.count("M") for path in paths] == [2, 1] and [path.count("L") for path in paths] == [0, 2]


@pytest.mark.parametrize("values", [[None, None], [0.0, 0.0], [99.99, 100.0], [0.001, 0.002]])
def test_a_chart_of_little_is_drawn_too(values):
    xml.etree.ElementTree.fromstring(charts.line_chart([1, 2], [charts.Line("a", values)], "x", "y"))
