import numpy as np
import pytest

from deeplab_tf.images.polygons import regions_of, to_coco, to_geojson

RING = np.array([[1, 1, 1, 1], [1, 0, 2, 1], [1, 1, 1, 1]], np.uint8)


def signed_area(ring):
    x, y = np.array(ring, np.int64).T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def inside(rings, size):
    """Which pixels' middles are inside, by the even-odd rule, an edge at a time."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    result = np.zeros(size, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            assert (x0 == x1) != (y0 == y1)  # along pixels
            if x0 == x1:
                result ^= (xs < x0) & (min(y0, y1) < ys) & (ys < max(y0, y1))
    return result


def test_a_single_pixel_has_a_square_and_a_ring_has_a_hole():
    [pixel] = regions_of(np.array([[0, 0, 0], [0, 0, 7]], np.uint8), [7])
    assert sorted(pixel.outline) == [(2, 1), (2, 2), (3, 1), (3, 2)] and pixel.box == (2, 1, 1, 1)
    [ring] = regions_of(RING, [1])
    assert (ring.label, ring.area, ring.box) == (1, 10, (0, 0, 4, 3))
    assert sorted(ring.outline) == [(0, 0), (0, 3), (4, 0), (4, 3)]
    assert [sorted(hole) for hole in ring.holes] == [[(1, 1), (1, 2), (3, 1), (3, 2)]]


@pytest.mark.parametrize("seed", range(6))
def test_polygons_enclose_exactly_the_pixels_of_their_regions(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, (12, 17), np.uint8)
    if seed % 2:
        labels = labels.repeat(3, axis=0).repeat(2, axis=1)
    covered = np.zeros(labels.shape, int)
    for region in regions_of(labels, range(3)):
        rings = [region.outline, *region.holes]
        mask = inside(rings, labels.shape)
        assert (labels[mask] == region.label).all() and mask.sum() == region.area
        assert signed_area(region.outline) > 0 and all(signed_area(hole) < 0 for hole in region.holes)
        assert sum(map(signed_area, rings)) == region.area
        assert len(set(region.outline)) == len(region.outline)  # it does not touch itself
        covered += mask
    assert (covered == 1).all()


def test_geojson_closes_its_rings_and_names_the_classes():
    found = to_geojson(regions_of(RING, [1]), ("background", "tyre", "hub"))
    [feature] = found["features"]
    assert feature["properties"] == {"class": "tyre", "label": 1, "area": 10}
    rings = feature["geometry"]["coordinates"]
    assert [len(ring) for ring in rings] == [5, 5] and all(ring[0] == ring[-1] for ring in rings)


def test_coco_has_polygons_and_run_lengths_for_what_has_holes():
    ring, hub = to_coco(regions_of(RING, [1, 2]), RING.shape)
    assert hub["bbox"] == [2, 1, 1, 1] and hub["area"] == 1 and len(hub["segmentation"][0]) == 8
    runs = ring["segmentation"]
    assert runs["size"] == [3, 4] and runs["counts"][0] == 0
    values = np.repeat(np.arange(len(runs["counts"])) % 2, runs["counts"])
    np.testing.assert_array_equal(values.reshape(4, 3).T, RING == 1)
