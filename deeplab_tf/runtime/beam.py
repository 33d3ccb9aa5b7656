"""Apache Beam, an optional requirement: its flags, its runners, and its errors as one line."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line
from deeplab_tf.runtime.progress import show_progress

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult, PipelineRunner

LOCAL = "DirectRunner"
COUNTERS = "deeplab_tf"
"""The namespace of the counters of our own steps."""

_MANY = "multi_processing"
_CANCEL_SECONDS = 30


def require_beam() -> None:
    """Refuses to go on without Beam, and keeps its messages from the terminal.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            "Apache Beam is not installed: pip install -r requirements-beam.txt -c constraints-beam.txt, best in an"
            " environment of its own."
        )
    # Of what fails, our own line or a traceback tells.
    logging.getLogger().setLevel(logging.CRITICAL)


def pipeline_options(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """Reads Beam's own flags.

    Args:
        runner: a name that Beam knows, such as DirectRunner.
        arguments: --name=value or --name value, any that the runner takes.

    Raises:
        UserError: Beam does not know a flag, or its value does not fit.
    """
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

    unknown = _unknown(arguments)
    if runner == LOCAL:  # what other runners take, only they know
        command_line.refuse_unknown(unknown)
    options = PipelineOptions([f"--runner={runner}", *arguments], save_main_session=False)
    direct = options.view_as(DirectOptions)
    if direct.direct_num_workers != 1 and direct.direct_running_mode == "in_memory":
        direct.direct_running_mode = _MANY  # several workers in one process would not be faster
    return options


def threads_of_a_worker(options: PipelineOptions, cores: int) -> int:
    """Returns how many threads TensorFlow should have in each of several processes of this machine; 0 for all."""
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

    direct = options.view_as(DirectOptions)
    if options.view_as(StandardOptions).runner != LOCAL or direct.direct_running_mode != _MANY:
        return 0
    return max(1, cores // (direct.direct_num_workers or cores))


def run(build: Callable[[beam.Pipeline], Any], options: PipelineOptions) -> dict[str, int]:
    """Runs a pipeline to its end.

    Ctrl-C ends this process at once, and with it those of the DirectRunner: what the steps write has to bear that. On
    a cluster Ctrl-C and SIGTERM cancel the job.

    Args:
        build: adds the steps.
        options: what `pipeline_options` gave.

    Returns:
        The sums of the counters that the pipeline's own steps have, by their names.

    Raises:
        UserError: a step raised it, or there is no such runner.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import StandardOptions

    name = options.view_as(StandardOptions).runner
    if name != LOCAL:
        _keep_job_server_from_ctrl_c(options)
    try:
        # Beam's own DirectRunner would first download another one, Prism, where there is a network.
        pipeline = beam.Pipeline(runner=_local_runner(options) if name == LOCAL else name, options=options)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--runner={name}: {error}") from error
    build(pipeline)
    threading.excepthook = _end_where_a_process_was_killed
    try:
        result = pipeline.run()
        if name == LOCAL:
            result.wait_until_finish()
        else:
            _wait_for_cluster(result)
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr, flush=True)
        os._exit(command_line.EXIT_INTERRUPTED)  # Beam's threads would wait for their processes
    except UserError:
        raise
    except Exception as error:
        # Other processes send their errors as text.
        said = re.search(r"deeplab_tf\.errors\.UserError: (.*?)(?: \[while running|$)", str(error), re.MULTILINE)
        if said is not None:
            raise UserError(said.group(1)) from error
        lost = re.match(r"Pipeline \S+ failed in state \w+: *(.*)", str(error))
        if lost is None or "Traceback (most recent call last)" in str(error):  # a step of ours raised it
            raise
        raise UserError(
            f"{name} could not run the job: {lost.group(1).rstrip('.')}. The cluster's logs say on which machine; what"
            " is done is kept, and the same command does the rest."
        ) from error
    return {
        counter.key.metric.name: counter.committed if counter.committed is not None else counter.attempted
        for counter in result.metrics().query()["counters"]
        if counter.key.metric.namespace == COUNTERS
    }


@contextlib.contextmanager
def show_finished(
    sizes: Mapping[str, int], finished: Callable[[], Iterable[str]], *, unit: str = "image", poll_seconds: float = 2.0
) -> Iterator[None]:
    """Shows, while the block runs, how much of the work is done.

    Args:
        sizes: for each piece of the work, by its name, of how many images it is.
        finished: names the finished pieces, and perhaps others; called in another thread.
        unit: what to call an image.
        poll_seconds: how long to wait before it is called again.
    """
    ended = threading.Event()

    def done() -> Iterator[int]:
        left, last = dict(sizes), False
        while left and not last:
            last = ended.wait(poll_seconds)
            new = sum(left.pop(name, 0) for name in finished())
            if new:
                yield new

    def show() -> None:
        with contextlib.suppress(UserError):  # the steps meet it too
            for _ in show_progress(done(), sum(sizes.values()), unit, images_of=int):
                pass

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _wait_for_cluster(result: PipelineResult) -> None:
    """Waits for the end of a job of a cluster, and cancels it where this process is to stop: it would go on there.

    Raises:
        SystemExit: on Ctrl-C and on SIGTERM.
    """

    def stop(number: int, _: object) -> None:
        raise _Stopped(number)

    # Beam's own answer to Ctrl-C ends its job server, and nothing could cancel the job any more.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        result.wait_until_finish()
    except _Stopped as stopped:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # once is enough
        print("interrupted: cancelling the job.", file=sys.stderr, flush=True)
        result.cancel()
        with contextlib.suppress(Exception):  # its end is an error by Beam's reckoning
            result.wait_until_finish(duration=_CANCEL_SECONDS * 1000)
        sys.exit(128 + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_job_server_from_ctrl_c(options: PipelineOptions) -> None:
    """Has Beam start its job server in a session of its own: Ctrl-C would end it, and nothing could cancel the job.

    Beam's command begins with the launcher and the properties, so they can be `setsid` and `java`.
    """
    from apache_beam.options.pipeline_options import JobServerOptions

    java = options.view_as(JobServerOptions)
    if shutil.which("setsid"):  # not on macOS
        java.job_server_jvm_properties = [java.job_server_java_launcher, *java.job_server_jvm_properties]
        java.job_server_java_launcher = "setsid"


class _Stopped(BaseException):
    """A signal to stop this process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end_where_a_process_was_killed(raised: threading.ExceptHookArgs) -> None:
    """Ends this process where Beam finds that one of its own is gone: it would wait for its answer for ever."""
    import grpc

    if raised.thread is not None and raised.thread.name == "run_worker":
        print(
            f"error: one of the processes was killed, perhaps for lack of memory ({raised.exc_value}). Run the same"
            " command again, with fewer --direct_num_workers: it continues from here.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(command_line.EXIT_USER_ERROR)
    if not isinstance(raised.exc_value, grpc.RpcError):  # of threads that have lost their process, too
        threading.__excepthook__(raised)


def _local_runner(options: PipelineOptions) -> PipelineRunner:
    from apache_beam.options.pipeline_options import DirectOptions
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    environment = None
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == _MANY:
        # "exec", so that the shell that Beam starts is not the process's parent.
        command = f"exec {shlex.quote(sys.executable)} -m deeplab_tf.runtime.beam_worker"
        environment = SubprocessSDKEnvironment.from_command_string(command)
        direct.direct_running_mode = "in_memory"  # any other mode would replace the environment
    return fn_runner.FnApiRunner(default_environment=environment, provision_info=provision)


def _unknown(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments that are not flags of Beam's."""
    from apache_beam.options.pipeline_options import PipelineOptions

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]
            raise UserError(f"Apache Beam: {message}. Try --help.")

    parser = Parser(allow_abbrev=False, conflict_handler="resolve", add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser.parse_known_args(list(arguments))[1]
