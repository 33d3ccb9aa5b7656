"""What a Flink or Spark machine starts to work for Beam: `--environment_type=PROCESS`, without Beam's container.

The runner starts `python -m deeplab_tf.runtime.beam_boot --id=ID --provision_endpoint=HOST:PORT` and tells it there
where to get its work. In Beam's own container a program named boot does this; the Python package does not have it.
"""

from __future__ import annotations

import argparse
import os
import sys

from google.protobuf import json_format, text_format

from deeplab_tf.runtime import beam_worker

_ANSWER_SECONDS = 60


def main(arguments: list[str]) -> None:
    """Learns from the runner where its work is, then works until the runner says that there is no more."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--id", required=True, help="the name of this process")
    parser.add_argument("--provision_endpoint", required=True, help="HOST:PORT of the runner's provision service")
    known, _ = parser.parse_known_args(arguments)
    os.environ.update(provision(known.id, known.provision_endpoint))
    beam_worker.main()


def provision(worker_id: str, endpoint: str) -> dict[str, str]:
    """Returns the environment variables that Beam's worker reads, from what the runner answers.

    Args:
        worker_id: what the runner calls this process.
        endpoint: HOST:PORT.

    Raises:
        grpc.RpcError: there is no such service, or it did not answer within a minute.
    """
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services

    with grpc.insecure_channel(endpoint) as channel:
        info = (
            services.ProvisionServiceStub(channel)
            .GetProvisionInfo(
                messages.GetProvisionInfoRequest(),
                metadata=[("worker_id", worker_id)],
                timeout=_ANSWER_SECONDS,
                wait_for_ready=True,
            )
            .info
        )
    variables = {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    for name in ("logging", "control", "status"):
        if info.HasField(f"{name}_endpoint"):
            service = getattr(info, f"{name}_endpoint")
            variables[f"{name.upper()}_API_SERVICE_DESCRIPTOR"] = text_format.MessageToString(service)
    return variables


if __name__ == "__main__":
    main(sys.argv[1:])
