"""What a machine of a cluster starts, and how a job there ends: with stand-ins for the runner."""

from __future__ import annotations

import concurrent.futures
import os
import signal

import pytest

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as messages
from apache_beam.portability.api import beam_provision_api_pb2_grpc as services

from deeplab_tf.runtime import beam, beam_boot


class Runner(services.ProvisionServiceServicer):
    """Tells each process where its work is, and notes who has called."""

    def __init__(self):
        self.callers = []

    def GetProvisionInfo(self, request, context):
        self.callers += [value for name, value in context.invocation_metadata() if name == "worker_id"]
        answer = messages.GetProvisionInfoResponse()
        answer.info.control_endpoint.url = "localhost:1"
        answer.info.logging_endpoint.url = "localhost:2"
        answer.info.runner_capabilities.extend(["a", "b"])
        answer.info.pipeline_options["beam:option:parallelism:v1"] = 2
        return answer


def test_the_runner_says_where_the_work_is():
    runner = Runner()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    services.add_ProvisionServiceServicer_to_server(runner, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        variables = beam_boot.provision("worker-7", f"127.0.0.1:{port}")
    finally:
        server.stop(0)
    assert runner.callers == ["worker-7"]
    assert variables["WORKER_ID"] == "worker-7" and variables["RUNNER_CAPABILITIES"] == "a b"
    assert variables["CONTROL_API_SERVICE_DESCRIPTOR"].strip() == 'url: "localhost:1"'
    assert variables["LOGGING_API_SERVICE_DESCRIPTOR"].strip() == 'url: "localhost:2"'
    assert "STATUS_API_SERVICE_DESCRIPTOR" not in variables  # this runner has none
    assert '"beam:option:parallelism:v1": 2' in variables["PIPELINE_OPTIONS"]


class Job:
    """A job of a cluster that ends when it is cancelled; a signal comes while it is waited for."""

    def __init__(self, number):
        self.number, self.cancelled = number, False

    def wait_until_finish(self, duration=None):
        if not self.cancelled:
            os.kill(os.getpid(), self.number)
            raise AssertionError("the signal was not noticed")
        raise RuntimeError("CANCELLED")

    def cancel(self):
        self.cancelled = True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_the_first_process_stops_the_job_on_the_cluster(number, capsys):
    before = signal.getsignal(number)
    job = Job(number)
    with pytest.raises(SystemExit) as ended:
        beam._wait_for_cluster(job)
    assert job.cancelled and ended.value.code == 128 + number
    assert "cancelling the job" in capsys.readouterr().err
    assert signal.getsignal(number) is before
