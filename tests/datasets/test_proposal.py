import pytest

from datasets.convert import _own_name
from datasets.proposal import BATCH, LITE, RESNET, next_steps, propose
from datasets.stored.manifest import Manifest, ShardFile, SplitManifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.runtime.gpus import has_nvidia_gpu


def manifest(splits):
    def split(name, count):
        shards = (ShardFile(f"{name}.tfrecord", "", (100,) * count),)
        return SplitManifest(name, True, tuple(map(str, range(count))), shards)

    info = DatasetInfo("mine", ("a", "b"), pascal_palette(2))
    return Manifest("d", info, {name: split(name, count) for name, count in splits.items()})


@pytest.mark.parametrize(
    ("images", "gpu", "experiment", "iterations"),
    [
        (50, False, LITE, 600),
        (887, False, LITE, 3400),
        (3131, False, LITE, 4000),
        (20000, False, LITE, 25000),
        (999, True, LITE, 3800),
        (1000, True, RESNET, 2000),
        (10582, True, RESNET, 21200),
    ],
)
def test_the_network_fits_the_machine_and_the_length_the_images(images, gpu, experiment, iterations):
    chosen = propose(images, gpu)
    assert (chosen.experiment, chosen.iterations) == (experiment, iterations)
    train = EXPERIMENTS[experiment].train
    assert BATCH[experiment] == train.batch_size * train.iter_size


def test_the_command_names_the_data_and_a_workdir_of_its_own():
    lines = next_steps(manifest({"train": 80, "val": 9}), "data/my photos/", has_gpu=False)
    assert lines[0] == "look: python -m datasets.check --data_dir='data/my photos/'"
    assert "--data_dir='data/my photos/' --workdir='runs/my photos' --eval_split=val" in lines[1]
    assert "--eval_split" not in next_steps(manifest({"train": 80}), "d", has_gpu=False)[1]


def test_without_a_split_to_train_on_no_training_is_proposed():
    assert next_steps(manifest({"val": 9}), "d", has_gpu=False)[1].startswith("next: convert the split train too")


def test_a_data_set_is_called_after_its_folder_but_never_like_another_data_set(tmp_path, monkeypatch):
    assert _own_name("/photos/fruit/") == "fruit" and _own_name("/") == "folder"
    assert _own_name("raw/voc12") == "voc12 (folder)"
    monkeypatch.chdir(tmp_path)
    assert _own_name(".") == tmp_path.name
    _own_name("a\udcff").encode()


def test_a_gpu_counts_where_the_driver_knows_it_and_this_process_may_use_it(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not has_nvidia_gpu(str(tmp_path))
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert has_nvidia_gpu(str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_nvidia_gpu(str(tmp_path))
