import cv2
import numpy as np
import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.images.video import VideoReader, write_video


def frame(number, size=(48, 64)):
    """A bright square that moves over a dark background."""
    image = np.full((*size, 3), 30, np.uint8)
    image[10:26, 2 * number : 2 * number + 16] = (220, 40, 90)
    return image


def write(path, count=12, size=(48, 64), rate=12.5):
    with write_video(str(path), size, rate) as add:
        for number in range(count):
            add(frame(number, size))
    return str(path)


def test_what_is_written_is_read_again(tmp_path):
    with VideoReader(write(tmp_path / "a.mp4")) as video:
        assert (video.size, video.frames_per_second, video.stated_frames) == ((48, 64), 12.5, 12)
        frames = list(video.frames())
        video.check_complete()
    assert video.num_read == len(frames) == 12
    for number, one in enumerate(frames):
        assert one.dtype == np.uint8 and one.flags.c_contiguous
        # The codec loses a little. Red and blue exchanged, or another frame, would be far off.
        assert np.abs(one.astype(int) - frame(number)).mean() < 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_odd_size_loses_no_pixel(tmp_path):
    with VideoReader(write(tmp_path / "a.mp4", size=(47, 63))) as video:
        assert video.size == (48, 64)


def test_a_video_that_stops_in_the_middle_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), write_video(str(tmp_path / "a.mp4"), (48, 64), 25) as add:
        add(frame(0))
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_frames_that_did_not_arrive_are_noticed(tmp_path, monkeypatch):
    # As on a full disk, of which OpenCV says nothing.
    monkeypatch.setattr("deeplab_tf.images.video._open", lambda path: Capture([frame(0)], count=1.0))
    with pytest.raises(UserError, match="not all frames"), write_video(str(tmp_path / "a.mp4"), (48, 64), 25) as add:
        add(frame(0))
        add(frame(1))
    assert not list(tmp_path.iterdir())


def test_a_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected frames"), write_video(str(tmp_path / "a.mp4"), (48, 64), 25) as add:
        add(frame(0, (90, 90)))


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    path = str(tmp_path / "no" / "a.mp4")
    with pytest.raises(UserError, match=r"cannot write .*/no/a\.mp4: No such file"), write_video(path, (48, 64), 25):
        pass


@pytest.mark.parametrize("content", [b"", b"no video\n" * 50])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4: expected a video, OpenCV cannot open it"):
        VideoReader(str(path))
    assert capfd.readouterr() == ("", "")


def test_a_video_without_its_index_cannot_be_opened(tmp_path):
    path = tmp_path / "a.mp4"
    whole = (tmp_path / "whole.mp4", write(tmp_path / "whole.mp4"))[0].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut off"):
        VideoReader(str(path))


def test_a_video_that_breaks_off_gives_its_frames_and_then_says_so(tmp_path):
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(20):
        writer.write(frame(number))
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with VideoReader(str(cut)) as video:
        assert 0 < len(list(video.frames())) < 18
        with pytest.raises(UserError, match=r"about 20 frames, the video breaks off after"):
            video.check_complete()


def test_frames_of_several_sizes_become_those_of_the_first_and_no_length_is_made_up(tmp_path):
    path = tmp_path / "a.mpg"  # pictures in a row: FFmpeg looks at the content
    jpegs = [cv2.imencode(".jpg", frame(number, size))[1] for size in ((48, 64), (96, 128)) for number in range(4)]
    path.write_bytes(b"".join(jpeg.tobytes() for jpeg in jpegs))
    with VideoReader(str(path)) as video:
        assert video.stated_frames is None
        frames = list(video.frames())
        video.check_complete()
    assert [one.shape for one in frames] == [(48, 64, 3)] * 8
    assert np.abs(frames[4].astype(int) - cv2.resize(frame(0, (96, 128)), (64, 48))).mean() < 8


class Capture:
    """What OpenCV would give for a file that it opens."""

    def __init__(self, frames=(), **properties):
        self._frames = iter(frames)
        self._properties = properties

    def isOpened(self):
        return True

    def read(self):
        frame = next(self._frames, None)
        return frame is not None, frame

    def get(self, key):
        names = {cv2.CAP_PROP_FPS: "rate", cv2.CAP_PROP_FRAME_COUNT: "count", cv2.CAP_PROP_FOURCC: "codec"}
        return self._properties.get(names[key], 0.0)

    def release(self):
        self._frames = iter(())


def opened(monkeypatch, capture):
    monkeypatch.setattr("deeplab_tf.images.video._open", lambda path: capture)
    return VideoReader("a.mp4")


def test_a_codec_that_cannot_be_decoded_is_named(monkeypatch):
    with pytest.raises(UserError, match=r"a\.mp4: expected frames, OpenCV can decode none of them \(codec AV01\)"):
        opened(monkeypatch, Capture(codec=float(cv2.VideoWriter.fourcc(*"AV01"))))


@pytest.mark.parametrize("rate", [0.0, float("nan"), -1.0, 90000.0])
def test_a_rate_that_means_nothing_is_unknown(monkeypatch, rate):
    video = opened(monkeypatch, Capture([frame(0)], rate=rate, count=-1e14))
    assert video.frames_per_second is None and video.stated_frames is None


def test_a_count_that_is_a_little_too_large_is_an_estimate(monkeypatch):
    video = opened(monkeypatch, Capture([frame(0)] * 19, count=20.0))
    assert len(list(video.frames())) == 19
    video.check_complete()


def test_a_closed_video_has_no_more_frames(tmp_path):
    with VideoReader(write(tmp_path / "a.mp4")) as video:
        frames = video.frames()
        next(frames)
    assert list(frames) == []
