import json

import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import devices, tf_config


@pytest.fixture
def options(monkeypatch):
    """What is asked of TensorFlow's graph optimizers."""
    asked = {}
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", asked.update)
    return asked


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], {}),
        ([(9, 0)], {"layout_optimizer": False}),
        ([(8, 0), (8, 6)], {"layout_optimizer": False}),
        ([(8, 0), (7, 5)], {}),
        ([None], {}),
    ],
    ids=["no GPU", "one", "two", "one without TF32", "unknown"],
)
def test_graphs_stay_channels_last_on_gpus_whose_tensor_cores_compute_float32(
    monkeypatch, options, capabilities, expected
):
    details = [{"compute_capability": c} if c else {} for c in capabilities]
    physical = {"GPU": range(len(details)), "CPU": tf.config.list_physical_devices("CPU")}
    monkeypatch.setattr(tf.config, "list_physical_devices", physical.get)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    strategy = devices.build_strategy("one_device")
    assert "CPU" in devices.describe(strategy)
    assert options == expected


CHIEF_AND_WORKERS = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
WORKERS = {"worker": ["a:1", "b:1"]}


class OfProcesses:
    """What `devices` asks a strategy of several processes."""

    def __init__(self, cluster, task_type, task_id):
        spec = tf.train.ClusterSpec(cluster)
        self.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type=task_type, task_id=task_id
        )


@pytest.mark.parametrize(
    ("cluster", "tasks", "chiefs"),
    [
        (CHIEF_AND_WORKERS, [("chief", 0), ("worker", 0), ("worker", 1)], [True, False, False]),
        (WORKERS, [("worker", 0), ("worker", 1)], [True, False]),
        ({"chief": ["a:1"]}, [("chief", 0)], [True]),
    ],
    ids=["a chief and two workers", "two workers", "a chief alone"],
)
def test_each_training_has_one_chief_and_counts_all_its_processes(monkeypatch, cluster, tasks, chiefs):
    strategies = [OfProcesses(cluster, *task) for task in tasks]
    assert [devices.is_chief(strategy) for strategy in strategies] == chiefs
    assert {devices.num_workers(strategy) for strategy in strategies} == {len(tasks)}
    # What is read before there is a strategy says the same.
    for (task_type, index), chief in zip(tasks, chiefs, strict=True):
        set_tf_config(monkeypatch, {"cluster": cluster, "task": {"type": task_type, "index": index}})
        read = tf_config.read_cluster()
        assert (read.is_chief, read.num_processes) == (chief, len(tasks))


def set_tf_config(monkeypatch, content):
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setenv("TF_CONFIG", text)


TASK = {"type": "worker", "index": 0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{cluster: a}", "it is not JSON"),
        ("[1]", "expected an object"),
        ({"cluster": ["a:1"], "task": TASK}, '"cluster" should list'),
        ({"cluster": {"worker": "a:1"}, "task": TASK}, '"worker" should be a list'),
        ({"cluster": {"worker": ["a"]}, "task": TASK}, "it has 'a'"),
        ({"cluster": {"worker": ["a:0"]}, "task": TASK}, "it has 'a:0'"),
        ({"cluster": {"worker": [1]}, "task": TASK}, "it has 1"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": TASK}, "a:1 is listed twice"),
        ({"cluster": {"chief": ["a:1", "b:1"]}, "task": TASK}, "one chief, it names 2"),
        ({"cluster": {**WORKERS, "ps": ["c:1"]}, "task": TASK}, "none for 'ps'"),
        ({"cluster": WORKERS}, "which process this is"),
        ({"cluster": WORKERS, "task": {"type": "worker"}}, "which process this is"),
        ({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}, "the type 'chief', and the cluster has worker"),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}, 'should be 0 to 1 for "worker", it is 2'),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": -1}}, "it is -1"),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": None}}, "it is None"),
    ],
)
@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
def test_a_tf_config_that_cannot_be_used_is_refused_before_anything_waits(monkeypatch, strategy, content, says):
    set_tf_config(monkeypatch, content)
    with pytest.raises(UserError, match="TF_CONFIG cannot be used") as refused:
        devices.build_strategy(strategy)
    assert says in str(refused.value) and "unset it to train alone" in str(refused.value)


def test_an_index_may_be_text_as_some_schedulers_write_it(monkeypatch):
    set_tf_config(monkeypatch, {"cluster": WORKERS, "task": {"type": "worker", "index": "1"}, "environment": "cloud"})
    assert tf_config.read_cluster() == tf_config.Cluster((), ("a:1", "b:1"), "worker", 1)


@pytest.mark.parametrize("content", [None, "", "{}", '{"task": {"type": "worker", "index": 0}}'])
def test_multi_worker_without_other_processes_is_refused_and_auto_trains_alone(monkeypatch, content):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if content is not None:
        set_tf_config(monkeypatch, content)
    with pytest.raises(UserError, match=r"multi_worker trains with the processes that .* TF_CONFIG lists"):
        devices.build_strategy("multi_worker")
    assert devices.num_workers(devices.build_strategy("auto")) == 1
