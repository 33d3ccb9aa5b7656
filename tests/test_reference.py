"""The page of the public names is what the docstrings say today."""

import re

import deeplab_tf as dl
from scripts import reference


def test_the_page_is_up_to_date():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python -m scripts.reference"


def test_every_public_name_has_its_entry_with_what_it_takes():
    text = reference.page()
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) == set(dl.__all__)
    entry = text.partition("### load_pretrained\n")[2].partition("\n### ")[0]
    assert "crf: bool = False" in entry and "- `crf_backend`: what computes the CRF" in entry
    assert "**`Prediction.shares`**" in text and "Prediction.save(" in text
