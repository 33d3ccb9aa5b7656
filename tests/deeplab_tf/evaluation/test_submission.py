import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets.sources import cityscapes
from deeplab_tf.dataset_info import CITYSCAPES_LABEL_IDS, DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.results import Result
from deeplab_tf.evaluation.submission import archive_name, archived

VOC = DatasetInfo("voc12", tuple(f"class {k}" for k in range(21)), pascal_palette(21))


def results(num_classes, refined=True):
    for number in range(3):
        network = np.random.default_rng(number).integers(0, num_classes, (7, 9 + number)).astype(np.uint8)
        image = np.zeros((*network.shape, 3), np.uint8)
        after = (network + 1) % num_classes if refined else None
        yield Result(f"2008_{number:06d}", image, np.zeros((0, 0), np.int32), network, after, 0.1, 0.1)


@pytest.mark.parametrize("refined", [False, True])
def test_voc_gets_palette_pngs_of_the_last_results_in_its_folders(tmp_path, refined):
    path = tmp_path / archive_name(VOC, "test", "comp6")
    passed = list(archived(results(21, refined), str(path), VOC, "comp6"))
    assert path.name == "voc12_test_comp6.tgz" and len(passed) == 3
    with tarfile.open(path) as archive:
        names = archive.getnames()
        assert names == [f"results/VOC2012/Segmentation/comp6_test_cls/2008_{i:06d}.png" for i in range(3)]
        for result, name in zip(passed, names, strict=True):
            with Image.open(archive.extractfile(name)) as picture:
                assert picture.mode == "P" and picture.getpalette()[3:6] == [128, 0, 0]
                np.testing.assert_array_equal(np.asarray(picture), result.predicted[-1])


def test_cityscapes_gets_grey_pngs_with_its_own_label_ids(tmp_path):
    path = tmp_path / archive_name(cityscapes.INFO, "test")
    passed = list(archived(results(19), str(path), cityscapes.INFO))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"2008_{i:06d}_pred_labelIds.png" for i in range(3)]
        with Image.open(io.BytesIO(archive.read(archive.namelist()[0]))) as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(
                np.asarray(picture), np.take([c[0] for c in cityscapes.CLASSES], passed[0].refined)
            )


def test_the_label_ids_are_those_of_the_converter():
    assert [label_id for label_id, _, _ in cityscapes.CLASSES] == list(CITYSCAPES_LABEL_IDS)


def test_an_archive_that_is_not_finished_is_not_left(tmp_path):
    def failing():
        yield from results(21)
        raise UserError("the disk is gone")

    with pytest.raises(UserError, match="the disk is gone"):
        list(archived(failing(), str(tmp_path / "a.tgz"), VOC))
    stopped = archived(results(21), str(tmp_path / "b.tgz"), VOC)
    next(stopped)
    stopped.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        list(archived(results(21), str(tmp_path / "missing" / "a.tgz"), VOC))


def test_data_without_a_test_server_and_part_of_the_classes_are_refused():
    with pytest.raises(UserError, match="the test servers of voc12, cityscapes; the data set is mine"):
        archive_name(DatasetInfo("mine", ("a",), pascal_palette(1)), "test")
    with pytest.raises(UserError, match="all 21 classes of voc12; there are 7"):
        archive_name(DatasetInfo("voc12", VOC.class_names[:7], pascal_palette(7)), "test")
