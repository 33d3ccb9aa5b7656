import itertools

from deeplab_tf.runtime import progress as image_progress
from deeplab_tf.runtime.progress import show_progress


def test_a_log_gets_a_line_every_twenty_seconds_with_rate_and_time_left(monkeypatch, capsys):
    clock = itertools.count(0, 4)  # seconds: four for each image
    monkeypatch.setattr(image_progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(image_progress.sys.stderr, "isatty", lambda: False)
    assert list(show_progress(iter("abcdefghijkl"), 12)) == list("abcdefghijkl")
    assert capsys.readouterr().out.splitlines() == [
        "image 5/12  0.25 images/s  0:00:28 left",
        "image 10/12  0.25 images/s  0:00:08 left",
    ]


def test_the_rate_forgets_a_slow_start(monkeypatch, capsys):
    times = iter([0.0, *(1000.0 + number for number in range(200))])
    monkeypatch.setattr(image_progress.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(image_progress.sys.stderr, "isatty", lambda: False)
    list(show_progress(range(150), 150))
    assert capsys.readouterr().out.splitlines()[-1].split()[2] == "1.00"


def test_images_that_come_in_pieces_are_counted_before_a_line_and_the_start_is_not_taken_for_their_speed(
    monkeypatch, capsys
):
    # The workers start in 30 seconds; then a piece of ten images every ten seconds.
    times = iter([0.0, 30.0, 40.0, 50.0, 60.0])
    monkeypatch.setattr(image_progress.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(image_progress.sys.stderr, "isatty", lambda: False)
    assert list(show_progress([10] * 4, 100, images_of=int)) == [10] * 4
    assert capsys.readouterr().out.splitlines() == ["image 10/100", "image 30/100  1.00 images/s  0:01:10 left"]
