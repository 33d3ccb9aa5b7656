import re

import pytest

from deeplab_tf.config import SECTIONS, InferenceConfig, ModelConfig, OptimizerConfig, TrainConfig
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.experiments import EXPERIMENTS
from scripts import settings_page


def test_the_page_of_settings_is_up_to_date():
    written = settings_page.PAGE.read_text(encoding="utf-8")
    assert written == settings_page.page(), "run python -m scripts.settings_page"


def test_every_setting_has_its_line_with_a_meaning():
    fields = {name: vars(getattr(EXPERIMENTS["resnet101"], name)) for name in SECTIONS}
    expected = {f"{section}.{name}" for section, names in fields.items() for name in names}
    rows = re.findall(r"^\| `(\S+)` \| (.+) \| (.+) \| (.*) \| (.+) \|$", settings_page.page(), re.MULTILINE)
    assert {row[0] for row in rows} == expected and len(rows) == len(expected)
    assert all(len(row[4]) > 6 for row in rows)


@pytest.mark.parametrize(
    ("section", "name", "kind", "says"),
    [
        (TrainConfig(), "iterations", int, "at least 1"),
        (TrainConfig(), "save_every", int, "at least 0"),
        (TrainConfig(), "dropout", float, "at least 0, below 1"),
        (TrainConfig(), "foreground_crops", float, "0 to 1"),
        (TrainConfig(), "precision", str, "float32, bfloat16, float16"),
        (TrainConfig(), "xla", bool, "true, false"),
        (OptimizerConfig(), "base_lr", float, "at least 0"),
        (ModelConfig(), "output_stride", int, "8, 16, 32"),
        (CrfParams(), "sigma_beta", float, "above 0"),
        (InferenceConfig(), "tile", int, "at least 0"),
    ],
)
def test_a_range_is_what_the_field_takes(section, name, kind, says):
    assert settings_page.range_of(section, name, kind) == says
