"""Colours for data sets without official ones: different enough for all eyes."""

import itertools

import numpy as np
import pytest

from deeplab_tf.dataset_info import pascal_palette
from deeplab_tf.images.palettes import OKABE_ITO, PALETTES, distinct_palette
from deeplab_tf.images.visualize import BORDER_COLOUR

# What dichromats see, in linear RGB, by another model than that of the code: Vienot, Brettel and Mollon (1999).
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
}
# The smallest CIEDE2000 distance of two classes, background included; a difference of 1 is barely visible side by
# side. PASCAL's colours have 18.6, 7.8 and 2.7 for 8 classes, and 4.5, 1.2 and 0.7 for 12 and 21.
LEAST = {8: 11.0, 12: 11.0, 21: 7.5}


def lab(colours, vision):
    """CIELAB of sRGB colours [N, 3] in 0..255 as someone sees them, D65."""
    levels = np.asarray(colours) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4) @ vision.T
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.clip(linear, 0, 1) @ np.transpose(to_xyz) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one, other):
    """The colour difference of Sharma, Wu and Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    a1, a2 = (a * (1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25**7))) for a in (a1, a2))
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 < 1e-9
    turn = 0 if grey else (h2 - h1 + 180) % 360 - 180
    hue = h1 + h2 if grey else h1 + turn / 2
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    cosines = zip((0.17, -0.24, -0.32, 0.20), (1, 2, 3, 4), (-30, 0, 6, -63), strict=True)
    t = 1 - sum(weight * np.cos(np.radians(times * hue + shift)) for weight, times, shift in cosines)
    d_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    d_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    blue = 60 * np.exp(-((((hue % 360) - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(blue))
    return np.sqrt(d_light**2 + d_chroma**2 + d_hue**2 + rotation * d_chroma * d_hue)


def smallest_distance(palette, vision):
    return min(ciede2000(one, other) for one, other in itertools.combinations(lab(palette, vision), 2))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [  # from the test data of Sharma, Wu and Dalal
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_of_this_file_is_ciede2000(one, other, distance):
    assert ciede2000(one, other) == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("num_classes", LEAST)
def test_classes_look_different_to_all_eyes(num_classes, vision):
    assert smallest_distance(distinct_palette(num_classes, 0), VISIONS[vision]) > LEAST[num_classes]


def test_colours_differ_for_any_number_of_classes_and_stay_when_classes_are_added():
    longest = distinct_palette(255)
    assert len(set(longest)) == 255 and not {(0, 0, 0), (255, 255, 255), BORDER_COLOUR} & set(longest)
    assert longest[:7] == OKABE_ITO
    for num_classes in (1, 3, 7, 8, 30):
        assert distinct_palette(num_classes) == longest[:num_classes]
    with pytest.raises(ValueError, match="1 to 255 colours, got 256"):
        distinct_palette(256)


def test_the_background_is_black_wherever_it_stands():
    assert distinct_palette(3, background=1) == (OKABE_ITO[0], (0, 0, 0), OKABE_ITO[1])
    assert PALETTES["distinct"](["cat", "void"]) == (OKABE_ITO[0], (0, 0, 0))
    assert PALETTES["pascal"](["cat", "void"]) == pascal_palette(2)
