"""One HTML page about an evaluation: figures, charts, pictures, and how they were made; it needs no other file."""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.resources
import json
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.evaluation.evaluate import MEANS, Evaluation, ScoredResult, result_pictures, trimap_chart
from deeplab_tf.evaluation.trimap import SHOWN_WIDTHS
from deeplab_tf.images import visualize
from deeplab_tf.runtime import devices, files

# Longest side of a picture in the page: sharp on a phone, and eight images in about a megabyte.
_PICTURE_PIXELS = 420
# Above this many classes the matrix has colours only.
_NUMBERED_CLASSES = 30
# Up to this many it has room beside it.
_LARGE_CELLS = 9
_CONFUSIONS = 10


@dataclasses.dataclass(frozen=True)
class About:
    """What a report says about an evaluation beside its figures.

    Attributes:
        title: such as "vgg16_large_fov on voc12 val".
        date: of the evaluation.
        command: that made it.
        protocol: from `protocol.describe_protocol`.
        training: from `protocol.describe_training`.
        differences: from `protocol.differences_from_the_paper`.
        warnings: what may make the figures wrong; shown above them.
    """

    title: str
    date: str
    command: str
    protocol: dict[str, str]
    training: dict[str, str]
    differences: Sequence[str]
    warnings: Sequence[str] = ()


def write_report(
    path: str, evaluation: Evaluation, config: Config | None, about: About, info: DatasetInfo | None = None
) -> None:
    """Writes the page.

    Args:
        path: of the HTML file.
        evaluation: what was found.
        config: network and data set; None for predictions that were stored.
        about: everything else.
        info: the data set, where there is no `config`.

    Raises:
        ValueError: neither of them.
    """
    info = config.info if config is not None else info
    if info is None:
        raise ValueError("a report needs the classes: give config or info.")
    metrics = evaluation.metrics
    parts = [
        f"<header><h1>{_text(about.title)}</h1>{_facts(metrics, about)}</header>",
        *(_card("Careful", f"<p>{_text(warning)}</p>", "warning") for warning in about.warnings),
        _headline(metrics),
        _card("IoU of each class, %", _bars(metrics, info)),
        _card("Confusion matrix", _matrix(evaluation.matrices[-1], metrics, info)),
    ]
    if "trimap" in metrics:
        parts.append(_card("Near boundaries", _trimap(metrics["trimap"])))
    for title, results in (("Worst images", evaluation.worst), ("Best images", evaluation.best)):
        if results:
            parts.append(_card(title, _legend(results, info) + _gallery(results, info), "long"))
    parts += [
        _card("How this was measured", _definitions(about.protocol)),
        _card("Where the weights come from", _definitions(about.training)),
        _card("What differs from the paper", _notes(about.differences)),
        _card("Settings and versions", _settings(config, about)),
    ]
    style = importlib.resources.files("deeplab_tf.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(about.title)}</title><style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n<footer>DeepLab for TensorFlow. Ratios in percent; IoU is intersection over union.</footer>"
        "</main></body></html>\n"
    )
    files.write_text(path, page)


def _facts(metrics: dict[str, Any], about: About) -> str:
    facts = [
        f"{metrics['num_images']:,} images",
        f"{metrics['num_pixels']:,} pixels",
        f"{metrics['images_per_second']:.2f} images/s",
        about.date,
    ]
    return '<div class="facts">' + "".join(f"<span>{_text(fact)}</span>" for fact in facts) + "</div>"


def _headline(metrics: dict[str, Any]) -> str:
    """The means: large, what the last step gives; below, what the network alone gave."""
    cards = []
    for number, (name, key) in enumerate(MEANS):
        value, before = metrics[key], ""
        if metrics["crf"]:
            value, network = metrics["crf"][key], metrics[key]
            before = f'<div class="from">network {_percent(network)}{_gain(network, value)}</div>'
        label = name + (", with CRF" if metrics["crf"] and number == 0 else "")
        cards.append(
            f'<div class="card{" first" if number == 0 else ""}"><div class="name">{_text(label)}</div>'
            f'<div class="value">{_percent(value)}<small>%</small></div>{before}</div>'
        )
    return f'<section class="headline">{"".join(cards)}</section>'


def _gain(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    points = 100 * (after - before)
    return f', <span class="{"gain" if points >= 0 else "loss"}">{points:+.2f}</span>'


def _bars(metrics: dict[str, Any], info: DatasetInfo) -> str:
    columns = [metrics] + ([metrics["crf"]] if metrics["crf"] else [])
    titles = ["network", "+ CRF"][: len(columns)]
    rows = [
        "<thead><tr><th></th><td></td>"
        + "".join(f'<td class="number">{title}</td>' for title in titles)
        + "</tr></thead>"
    ]
    for name in metrics["per_class_iou"]:
        values = [column["per_class_iou"][name] for column in columns]
        rows.append(_bar_row(_swatch(info, name) + _text(name), values))
    rows.append(_bar_row("mean", [column["miou"] for column in columns], "mean"))
    ticks = "".join(f'<span style="left:{tick}%">{tick}</span>' for tick in range(0, 101, 20))
    axis = f'<tfoot><tr><th></th><td class="bar"><div class="axis">{ticks}</div></td></tr></tfoot>'
    return f'<table class="bars">{"".join(rows)}{axis}</table>'


def _bar_row(label: str, values: Sequence[float | None], kind: str = "") -> str:
    bars = "".join(f'<i style="width:{100 * (value or 0):.2f}%"></i>' for value in values)
    numbers = "".join(f'<td class="number">{_percent(value)}</td>' for value in values)
    return f'<tr class="{kind}"><th>{label}</th><td class="bar"><div class="track">{bars}</div></td>{numbers}</tr>'


def _matrix(counts: np.ndarray, metrics: dict[str, Any], info: DatasetInfo) -> str:
    """Rows are the truth; each row's shares add up to 100 %."""
    labelled = counts.sum(axis=1)
    shown = np.flatnonzero(labelled + counts.sum(axis=0))  # classes that occur
    shares = counts / np.maximum(labelled, 1)[:, None]
    numbered = len(shown) <= _NUMBERED_CLASSES
    names = info.class_names
    head = "".join(f"<th><span>{_text(names[k])}</span></th>" for k in shown) if numbered else ""
    rows = [f"<thead><tr><th></th>{head}</tr></thead>"] if numbered else []
    for i in shown:
        cells = []
        for j in shown:
            share = float(shares[i, j])
            text = f"{100 * share:.0f}" if numbered and share >= 0.005 else ""
            kind = ' class="right"' if i == j else ""
            title = _text(f"{names[i]}, predicted as {names[j]}: {100 * share:.2f} %")
            cells.append(f'<td{kind} style="--share:{share**0.6:.3f}" title="{title}">{text}</td>')
        rows.append(f"<tr><th>{_swatch(info, names[i])}{_text(names[i])}</th>{''.join(cells)}</tr>")
    after = "network and CRF" if metrics["crf"] else "the network"
    mistakes = shares.copy()
    np.fill_diagonal(mistakes, 0)
    largest = [np.unravel_index(place, mistakes.shape) for place in np.argsort(-mistakes, axis=None)[:_CONFUSIONS]]
    listed = "".join(
        f"<li><span>{_swatch(info, names[i])}{_text(names[i])} predicted as {_text(names[j])}</span>"
        f"<span>{100 * mistakes[i, j]:.1f} %</span></li>"
        for i, j in largest
        if mistakes[i, j] > 0
    )
    size = "large" if len(shown) <= _LARGE_CELLS else "" if numbered else "small"
    return (
        f'<p class="faint">Share of the pixels of each class (row) that {after} gave to each class (column), in %.</p>'
        f'<div class="{"two" if size == "large" else ""}">'
        f'<div class="scroll" tabindex="0"><table class="matrix {size}">{"".join(rows)}</table></div>'
        f'<div><h3>Most frequent mistakes</h3><ul class="confusions">{listed}</ul></div></div>'
    )


def _trimap(trimap: dict[str, Any]) -> str:
    names = [name for name in ("network", "crf") if name in trimap]
    titles = {"network": "network", "crf": "+ CRF"}
    rows = []
    for width in SHOWN_WIDTHS:
        values = [trimap[name]["miou"][trimap["widths"].index(width)] for name in names]
        rows.append(f"<tr><td>{width}</td>" + "".join(f"<td>{_percent(value)}</td>" for value in values) + "</tr>")
    head = "".join(f"<th>{titles[name]}</th>" for name in names)
    border = {
        "void": "the void pixels around objects",
        "labels": "pixels where the label changes",
    }[trimap["border"]]
    return (
        f'<p class="faint">Mean IoU over the pixels within some distance of a boundary, here {border} (Fig. 10).</p>'
        f'<div class="two">{trimap_chart(trimap)}<table class="plain"><tr><th>band, pixels</th>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _legend(results: Sequence[ScoredResult], info: DatasetInfo) -> str:
    seen: set[int] = set()
    for scored in results:
        seen |= result_pictures(scored.result, info)[1]
    names = [info.class_names[label] for label in sorted(seen)]
    items = "".join(f"<span>{_swatch(info, name)}{_text(name)}</span>" for name in names)
    return f'<p class="key">{items}</p>'


def _gallery(results: Sequence[ScoredResult], info: DatasetInfo) -> str:
    figures = []
    for scored in results:
        pictures = result_pictures(scored.result, info)[0]
        titles = ("image", "truth", "network", "network + CRF")[: len(pictures)]
        images = "".join(
            f'<div><img alt="{title}" src="data:image/jpeg;base64,{_base64(picture)}">{title}</div>'
            for title, picture in zip(titles, pictures, strict=True)
        )
        mious = " &rarr; ".join(_percent(miou) for miou in scored.mious)
        name = f"<b>{_text(scored.result.image_id)}</b>"
        figures.append(
            f'<figure class="answer"><figcaption>{name}, mean IoU of this image <span>{mious}</span></figcaption>'
            f'<div class="row" style="--pictures:{len(pictures)}">{images}</div></figure>'
        )
    return "".join(figures)


def _settings(config: Config | None, about: About) -> str:
    facts = {
        "Command": about.command,
        **({"Experiment": config.experiment} if config is not None else {}),
        "Versions": f"Python {platform.python_version()}, TensorFlow {tf.__version__}, NumPy {np.__version__}",
        "Device": ", ".join(devices.gpu_names()) or f"CPU, {platform.machine()}",
    }
    if config is None:
        return _definitions(facts)
    settings = {name: value for name, value in config.to_json().items() if name != "dataset"}
    listed = html.escape(json.dumps(settings, indent=1))
    return f"{_definitions(facts)}<details><summary>All settings</summary><pre>{listed}</pre></details>"


def _card(title: str, content: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h2>{_text(title)}</h2>{content}</section>'


def _definitions(facts: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items()) + "</dl>"


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return "<p>Nothing that the settings tell.</p>"
    return '<ul class="notes">' + "".join(f"<li>{_text(note)}</li>" for note in notes) + "</ul>"


def _swatch(info: DatasetInfo, name: str) -> str:
    red, green, blue = info.palette[info.class_names.index(name)]
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def _percent(ratio: float | None) -> str:
    return "&ndash;" if ratio is None else f"{100 * ratio:.2f}"


def _base64(picture: np.ndarray) -> str:
    return base64.b64encode(visualize.encode_jpeg(picture, _PICTURE_PIXELS)).decode()


def _text(value: str) -> str:
    return html.escape(value)
