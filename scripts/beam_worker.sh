#!/bin/sh
# What each machine of a Flink or Spark cluster starts to work for Beam, where there is no Docker:
#   --environment_type=PROCESS --environment_config='{"command": "/deeplab/scripts/beam_worker.sh"}'
# PYTHON names the interpreter of the environment with requirements-beam.txt; "env" of the same setting can give it.
# It works in a folder of its own: the engine's may be full, or not be writable.
checkout=$(cd "$(dirname "$0")/.." && pwd) || exit 1
PYTHONPATH="$checkout${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m deeplab_tf.runtime.beam_boot "$@"
