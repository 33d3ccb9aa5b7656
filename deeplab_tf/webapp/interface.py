"""Gradio's components, and what happens when they change."""

from __future__ import annotations

import functools
import html
import importlib.resources
from typing import Any, NamedTuple

import gradio as gr

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.images.files import SUFFIXES
from deeplab_tf.webapp import page
from deeplab_tf.webapp.served_model import ServedModel

_OPACITY = 0.55
# Pages whose image and probabilities are kept; who comes back later has the network asked again.
_OPEN_PAGES = 8
# Callers that wait while one is answered.
_MOST_WAITING = 64
# Uploaded files are looked at every hour, and deleted after a day; all of them when the command ends.
_DELETE_CACHE = (3600, 86400)
# Runs in the browser: neither the network nor the CRF hears of it.
_SET_OPACITY = "value => { document.documentElement.style.setProperty('--opacity', value); }"


class _Constant(NamedTuple):
    """A constant of the CRF as a slider."""

    name: str
    low: float
    high: float
    step: float
    meaning: str


_CONSTANTS = (
    _Constant("w1", 0, 20, 0.1, "weight of: near and alike in colour"),
    _Constant("sigma_alpha", 5, 200, 0.5, "its reach, in pixels"),
    _Constant("sigma_beta", 1, 30, 0.1, "its reach in colour, in RGB levels"),
    _Constant("w2", 0, 20, 0.1, "weight of: near, of any colour"),
    _Constant("sigma_gamma", 0.5, 20, 0.1, "its reach, in pixels"),
    _Constant("iterations", 0, 20, 1, "mean-field updates"),
)


def build_interface(model: ServedModel, limits: page.Limits) -> gr.Blocks:
    """Lays out the page.

    Args:
        model: the model.
        limits: what it takes.

    Returns:
        The page, with a queue: one caller is answered after the other.
    """
    blocks = gr.Blocks(title=f"DeepLab: {model.title}", analytics_enabled=False, delete_cache=_DELETE_CACHE)
    with blocks:
        gr.HTML(_header(model))
        shown = gr.State(None)
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="file"):
                file = gr.File(label=_invitation(limits), file_types=list(SUFFIXES), type="binary", height=150)
            with gr.Column(elem_id="answer"):
                result = gr.HTML(page.EMPTY, elem_id="result")
            with gr.Column(elem_id="controls"):
                opacity = gr.Slider(0, 1, _OPACITY, step=0.01, label="Opacity of the overlay", elem_id="opacity")
                use_crf, constants = _crf_controls(model)
        opacity.change(None, opacity, js=_SET_OPACITY)
        controls = [use_crf, *constants]
        gr.on(
            [component.change for component in (file, *controls)],
            functools.partial(_answer, model, limits),
            [shown, file, *controls],
            [shown, result],
            # What was meant while an answer was on its way is asked afterwards, once.
            trigger_mode="always_last",
            concurrency_limit=1,
            show_progress_on=result,
            api_visibility="private",
        )
    blocks.queue(max_size=_MOST_WAITING)
    blocks.state_session_capacity = _OPEN_PAGES
    return blocks


def appearance() -> dict[str, Any]:
    """What `gr.mount_gradio_app` is to be given for the looks: fonts of the system, nothing from a network."""
    font = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    css = importlib.resources.files("deeplab_tf.webapp").joinpath("page.css").read_text(encoding="utf-8")
    return {
        "theme": gr.themes.Default(primary_hue="blue", font=font, font_mono=[gr.themes.Font("monospace")]),
        "css": css + f":root {{ --opacity: {_OPACITY}; }}\n",
        "footer_links": [],
    }


def _answer(
    model: ServedModel,
    limits: page.Limits,
    shown: page.Shown | None,
    data: bytes | None,
    use_crf: bool = False,
    *constants: float,
) -> tuple[page.Shown | None, str]:
    params = None
    if use_crf:
        values: dict[str, Any] = dict(zip((constant.name for constant in _CONSTANTS), constants, strict=True))
        params = CrfParams(**values | {"iterations": int(values["iterations"])})
    return page.answer(model, limits, shown, data, params)


def _crf_controls(model: ServedModel) -> tuple[gr.Checkbox, list[gr.Slider]]:
    use_crf = gr.Checkbox(
        False,
        label="Refine with the dense CRF",
        info=model.without_crf or None,
        interactive=not model.without_crf,
        elem_id="crf",
    )
    with gr.Accordion("Constants of the CRF", open=True, visible=not model.without_crf):
        sliders = []
        for constant in _CONSTANTS:
            value = getattr(model.crf, constant.name)
            low, high = min(constant.low, value), max(constant.high, value)
            sliders.append(
                gr.Slider(
                    low,
                    high,
                    value,
                    step=constant.step,
                    label=constant.name,
                    info=constant.meaning,
                    elem_id=constant.name,
                )
            )
    return use_crf, sliders


def _header(model: ServedModel) -> str:
    names = ", ".join(model.info.class_names)
    return (
        f"<header><h1>{html.escape(model.title)}</h1><details>"
        f"<summary>{model.info.num_classes} classes</summary><p>{html.escape(names)}</p></details></header>"
    )


def _invitation(limits: page.Limits) -> str:
    return f"An image, up to {limits.max_bytes / 1e6:g} MB"
