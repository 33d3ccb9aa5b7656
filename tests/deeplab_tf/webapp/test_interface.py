"""The page as Gradio's configuration describes it to the browser."""

import asyncio
import json
import re

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs requirements-webapp.txt")

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import interface
from deeplab_tf.webapp.page import Limits
from deeplab_tf.webapp.served_model import ServedModel

INFO = DatasetInfo("things", ("background", "cat"), pascal_palette(2))
PARAMS = CrfParams(w1=4.5, sigma_alpha=300, sigma_beta=3, w2=3, sigma_gamma=1, iterations=7)


def configuration(without_crf=""):
    model = ServedModel("a model", Segmenter(np.zeros_like, INFO), PARAMS, without_crf)

    async def build():
        # Outside of a running loop Gradio makes one and leaves it open.
        return interface.build_interface(model, Limits()).get_config_file()

    return asyncio.run(build())


def components(config, kind):
    return {c["props"].get("elem_id"): c["props"] for c in config["components"] if c["type"] == kind}


def test_the_sliders_have_the_papers_names_and_begin_with_the_models_constants():
    sliders = components(configuration(), "slider")
    for name in ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations"):
        assert sliders[name]["label"] == name and sliders[name]["value"] == getattr(PARAMS, name)
        assert sliders[name]["minimum"] <= sliders[name]["value"] <= sliders[name]["maximum"]
    assert "pixels" in sliders["sigma_alpha"]["info"] and "RGB levels" in sliders["sigma_beta"]["info"]


def test_the_values_of_the_sliders_arrive_as_constants(monkeypatch):
    given = []
    monkeypatch.setattr(interface.page, "answer", lambda *arguments: given.append(arguments[-1]) or (None, ""))
    interface._answer(None, Limits(), None, b"", True, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    interface._answer(None, Limits(), None, b"", False, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert given == [CrfParams(1.0, 2.0, 3.0, 4.0, 5.0, 6), None]


def test_the_opacity_is_changed_in_the_browser_alone():
    config = configuration()
    (opacity,) = (c["id"] for c in config["components"] if c["props"].get("elem_id") == "opacity")
    listeners = [d for d in config["dependencies"] if opacity in d["inputs"] or (opacity, "change") in d["targets"]]
    assert len(listeners) == 1 and not listeners[0]["backend_fn"] and "--opacity" in listeners[0]["js"]


def test_a_model_without_crf_says_why():
    config = configuration("this model answers labels.")
    checkbox = components(config, "checkbox")["crf"]
    assert not checkbox["interactive"] and checkbox["info"] == "this model answers labels."


def test_no_statistics_and_no_fonts_from_a_network():
    config = configuration()
    assert not config["analytics_enabled"]
    looks = interface.appearance()
    style = looks["theme"]._get_theme_css() + looks["css"] + json.dumps(config["components"], default=str)
    assert not re.search(r"@import|url\([\"' ]*(https?:)?//", style) and not any(looks["theme"]._stylesheets)
