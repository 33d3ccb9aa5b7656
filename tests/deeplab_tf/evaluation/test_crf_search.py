import json

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation import crf_search
from deeplab_tf.evaluation.crf_search import Constants, Range, Ranges, coarse_to_fine, search

INFO = DatasetInfo(name="two", class_names=("dark", "bright"), palette=pascal_palette(2))
# Small: at most 2 x 2 x 2 coarse sets.
FEW = Ranges(Range((1.0, 9.0), 8.0), Range((4.0, 30.0), 26.0), Range((4.0, 100.0), 96.0))


def halves(number, height=14, width=18):
    """Dark left, bright right, and labels to match; the network below believes in another border."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, 6 + number :] = 1
    noise = np.random.default_rng(number).integers(-3, 4, (height, width, 3))
    return f"id{number}", (60 + 120 * labels[..., None] + noise).astype(np.uint8), labels


def shifted(image):
    """Probabilities whose border is three pixels too far right, and not sure of it."""
    bright = np.roll(image[..., 0] > 120, 3, axis=1)
    bright[:, :3] = False
    p = np.where(bright, 0.65, 0.35).astype(np.float32)
    return np.stack([1 - p, p], -1)


def run(out_dir, predict=shifted, num_images=3, source=None, params=None, ranges=FEW):
    params = params or CrfParams(w1=1, sigma_alpha=4, sigma_beta=100, w2=0.5, sigma_gamma=1, iterations=3)
    examples = [halves(number) for number in range(4)]
    return search(
        predict,
        examples,
        4,
        INFO,
        params,
        num_images=num_images,
        source=source or {},
        out_dir=str(out_dir),
        ranges=ranges,
    )


def test_the_planted_best_is_found_between_and_beyond_the_coarse_values():
    planted = Constants(5.25, 100.0, 2.25)

    def score(constants):
        return [-sum(abs(a - b) / b for a, b in zip(one, planted, strict=True)) for one in constants]

    scored = coarse_to_fine(score, start=Constants(4.0, 67.0, 3.0))
    assert scored[0].constants == planted
    assert [one.miou for one in scored] == sorted((one.miou for one in scored), reverse=True)
    assert len({one.constants for one in scored}) == len(scored)


def test_the_start_wins_where_it_is_best_and_no_constant_becomes_zero():
    start = Constants(0.5, 7.0, 1.0)
    scored = coarse_to_fine(lambda constants: [1.0 if one == start else 0.0 for one in constants], start)
    assert scored[0].constants == start
    assert min(min(one.constants) for one in scored) > 0


def test_the_search_finds_constants_that_put_the_border_where_the_colours_change(tmp_path, capsys):
    best = run(tmp_path)
    said = capsys.readouterr().out
    assert "warning: 3 images are few for a search" in said and "The constants before were w1 " in said
    table = json.loads((tmp_path / crf_search.TABLE_FILE).read_text())
    assert best.w1 >= 5 and best.sigma_beta < 100
    assert (best.w2, best.sigma_gamma, best.iterations) == (0.5, 1, 3)
    top = max(row["miou"] for row in table["scores"])
    assert top > 0.95 > table["before"]["network"]
    assert top > table["before"]["start"] + 0.05
    text = (tmp_path / crf_search.TEXT_FILE).read_text()
    assert f"{best.w1:>8g}{best.sigma_alpha:>14g}{best.sigma_beta:>13g}" in text.splitlines()[4]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [crf_search.TABLE_FILE, crf_search.TEXT_FILE, crf_search.PICTURE_FILE]
    )


def test_no_cell_of_the_picture_covers_another_however_close_the_constants_are(tmp_path):
    sets = [(Constants(3.0, alpha, 4.0), miou) for alpha, miou in ((50.0, 0.9), (51.0, 0.5), (90.0, 0.1))]
    crf_search._draw([crf_search.Scored(*one) for one in sets], str(tmp_path / "picture.png"))
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture).astype(int)
    ends = ((253, 231, 36), (32, 144, 140), (68, 1, 84))  # viridis at 1, 0.5 and 0
    areas = [(np.abs(pixels - colour).max(axis=-1) < 4).sum() for colour in ends]
    assert min(areas) > 5000 and max(areas) < 1.2 * min(areas)


def test_an_interrupted_search_goes_on_and_a_finished_one_is_not_repeated(tmp_path, monkeypatch):
    counted = []
    count = crf_search._count

    def interrupted(params, backend, group, path, info):
        counted.append(group)
        if len(counted) > 10:
            raise KeyboardInterrupt
        return count(params, backend, group, path, info)

    monkeypatch.setattr(crf_search, "_count", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    finished = len(json.loads((tmp_path / crf_search.TABLE_FILE).read_text())["scores"])
    assert finished >= 1

    def never(image):
        raise AssertionError("the probabilities are stored")

    counted.clear()
    monkeypatch.setattr(
        crf_search,
        "_count",
        lambda params, backend, group, *image: counted.extend(group) or count(params, backend, group, *image),
    )
    best = run(tmp_path, predict=never)
    total = len(json.loads((tmp_path / crf_search.TABLE_FILE).read_text())["scores"])
    assert len(counted) == 3 * (total - finished)
    counted.clear()
    assert run(tmp_path, predict=never) == best and not counted


def test_other_weights_start_the_table_anew(tmp_path):
    tiny = Ranges(*(Range((one.values[0],), 1.0) for one in FEW))
    run(tmp_path, source={"weights": 1}, num_images=1, ranges=tiny)
    asked = []
    run(tmp_path, lambda image: asked.append(1) or shifted(image), source={"weights": 2}, num_images=1, ranges=tiny)
    assert len(asked) == 1


def test_what_cannot_be_searched_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="at least one image"):
        search(shifted, [], 0, INFO, CrfParams(), num_images=5, source={}, out_dir=str(tmp_path))
    (tmp_path / crf_search.TABLE_FILE).write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*crf_search\.json.*Remove it"):
        run(tmp_path)
