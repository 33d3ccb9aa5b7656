"""Apache Beam is optional, and its flags are the command's own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import beam

ROOT = Path(__file__).resolve().parents[3]
HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
needs_beam = pytest.mark.skipif(not HAS_BEAM, reason="needs requirements-beam.txt")


def test_without_beam_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -r requirements-beam\.txt -c constraints-beam\.txt"):
        beam.require_beam()


@pytest.mark.skipif(HAS_BEAM, reason="Beam is installed")
def test_a_command_without_beam_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "datasets.convert", "--dataset=synthetic", f"--out={tmp_path}"]
    done = subprocess.run([*command, "--runner=DirectRunner"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "requirements-beam.txt" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [(["--splitz=train"], "Did you mean: splits"), (["--direct_num_workers=2"], "direct_num_workers")],
)
def test_flags_of_beam_are_flags_with_a_runner_only(tmp_path, flags, says):
    command = [sys.executable, "-m", "datasets.convert", "--dataset=synthetic", f"--out={tmp_path}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and says in done.stderr


@needs_beam
def test_flags_of_beam_are_read_and_several_workers_are_processes():
    from apache_beam.options.pipeline_options import DirectOptions

    options = beam.pipeline_options("DirectRunner", ["--direct_num_workers", "3"])
    assert options.view_as(DirectOptions).direct_num_workers == 3
    assert [beam.threads_of_a_worker(options, cores) for cores in (2, 6, 7)] == [1, 2, 2]
    assert beam.threads_of_a_worker(beam.pipeline_options("DirectRunner", []), 8) == 0
    assert beam.threads_of_a_worker(beam.pipeline_options("FlinkRunner", ["--parallelism=3"]), 8) == 0


def fail_with(monkeypatch, words):
    """Lets a pipeline end with an error as soon as it runs."""

    class Pipeline:
        def __init__(self, **_):
            pass

        def run(self):
            raise RuntimeError(words)

    monkeypatch.setattr("apache_beam.Pipeline", Pipeline)


@needs_beam
@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
def test_the_job_server_is_in_a_session_of_its_own_where_ctrl_c_does_not_reach_it(monkeypatch):
    from apache_beam.options.pipeline_options import JobServerOptions

    fail_with(monkeypatch, "no cluster")
    options = beam.pipeline_options("SparkRunner", ["--job_server_jvm_properties=-Xmx1g"])
    with pytest.raises(RuntimeError, match="no cluster"):
        beam.run(lambda pipeline: None, options)
    java = options.view_as(JobServerOptions)
    assert [java.job_server_java_launcher, *java.job_server_jvm_properties] == ["setsid", "java", "-Xmx1g"]


@needs_beam
@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ("java.io.IOException: No space left on device\n\tat Task.java", "FlinkRunner could not run the job: java.io"),
        ("Traceback (most recent call last):\n  x.py\nKeyError: 3", "KeyError: 3"),
        (
            "Traceback (most recent call last):\n x\ndeeplab_tf.errors.UserError: no model. [while running x]",
            "no model",
        ),
    ],
)
def test_what_the_engine_says_is_one_line_and_a_fault_of_ours_keeps_its_traceback(monkeypatch, said, ends):
    fail_with(monkeypatch, f"Pipeline job_1 failed in state FAILED: {said}")
    with pytest.raises((UserError, RuntimeError), match=ends) as caught:
        beam.run(lambda pipeline: None, beam.pipeline_options("FlinkRunner", []))
    assert isinstance(caught.value, UserError) == ("KeyError" not in said)
    assert caught.type is RuntimeError or "\n" not in str(caught.value)


@needs_beam
def test_a_value_that_beam_does_not_take_is_one_line():
    with pytest.raises(UserError, match="Apache Beam: argument --direct_num_workers: invalid int"):
        beam.pipeline_options("DirectRunner", ["--direct_num_workers=many"])
