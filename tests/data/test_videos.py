"""Videos decoded by PyAV beside the frames that they were made of."""

import sys

import numpy as np
import pytest

from distill.data.sequences import Frames, clip_frames, open_sequences
from distill.data.sequences.videos import Videos
from distill.data.sources.base import CorruptImage, MissingSplit
from distill.errors import UserError

LENGTH, HEIGHT, WIDTH = 40, 48, 64


def pictures():
    """A bright bar that moves over grey, uint8 [LENGTH, HEIGHT, WIDTH, 3]."""
    frames = np.full((LENGTH, HEIGHT, WIDTH, 3), 60, np.uint8)
    for number, one in enumerate(frames):
        one[:, number : number + 8] = 200
        one[:8] = 5 * number
    return frames


def write(path, frames, times=None):
    """An MP4 of MPEG-4 video, which any build of FFmpeg writes."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate, stream.gop_size = 4_000_000, 12
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def opened(root, split="train", channels=3):
    return open_sequences(f"videos:{root}", split, channels=channels)


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[video\]'.*GPL.*clips:PATH"):
        opened(tmp_path)


def test_frames_are_those_that_were_written_whatever_their_times(tmp_path):
    write(tmp_path / "train" / "bar" / "even.mp4", pictures())
    # A frame rate that changes, as telephones record it.
    times = np.cumsum(1 + np.arange(LENGTH) % 3)
    write(tmp_path / "train" / "bar" / "uneven.mp4", pictures(), times.tolist())
    videos = opened(tmp_path)
    assert videos.found == "2 videos in 1 class" and videos.labels.tolist() == [0, 0]
    chosen = [31, 3, 3, 39, 0]
    for index in range(2):
        assert videos.frames(index) == LENGTH
        for number, example in zip(chosen, videos.read(index, chosen), strict=True):
            apart = np.abs(example["image"].astype(int) - pictures()[number])
            # The frames beside it differ by 4.6 in the mean.
            assert apart.mean() < 1.5 and example["label"] == 0
    grey = opened(tmp_path, channels=1).read(0, [39])[0]["image"]
    assert grey.shape == (HEIGHT, WIDTH, 1)
    source = Frames(videos, np.array([(1, 7), (0, 5), (1, 30)]))
    np.testing.assert_array_equal(source.read(2)["image"], videos.read(1, [30])[0]["image"])


def test_threads_of_the_decoder_change_no_frame(tmp_path):
    path = tmp_path / "train" / "bar" / "a.mp4"
    write(path, pictures())
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        expected = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    found = opened(tmp_path).read(0, range(LENGTH))
    np.testing.assert_array_equal([one["image"] for one in found], expected)


def test_a_video_shorter_than_a_clip_is_looped_and_a_frame_beyond_its_end_is_not(tmp_path):
    write(tmp_path / "train" / "bar" / "short.mp4", pictures()[:3])
    videos = opened(tmp_path)
    found = videos.read(0, clip_frames(videos.frames(0), 5, 2))
    np.testing.assert_array_equal(found[0]["image"], found[3]["image"])
    with pytest.raises(CorruptImage, match="ends after 3 frames, before frame 7"):
        videos.read(0, [1, 7])


def test_broken_videos_are_corrupt(tmp_path):
    path = tmp_path / "train" / "bar" / "broken.mp4"
    write(path, pictures())
    whole = path.read_bytes()
    for data in (b"", b"no video", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(CorruptImage):
            opened(tmp_path).frames(0)
    # Its index is whole, but not what it leads to.
    path.write_bytes(whole[:200] + bytes(len(whole) // 2) + whole[200 + len(whole) // 2 :])
    with pytest.raises(CorruptImage):
        opened(tmp_path).read(0, range(LENGTH))


def test_a_folder_without_videos_says_what_was_expected(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "train" / "bar").mkdir(parents=True)
    with pytest.raises(MissingSplit, match=r"no videos in .*expected SPLIT/CLASS/x\.mp4"):
        opened(tmp_path)


def test_frames_of_more_pixels_than_allowed_are_corrupt(tmp_path):
    write(tmp_path / "train" / "bar" / "x.mp4", pictures())
    pixels = WIDTH * HEIGHT
    name = f"videos:{tmp_path}"
    allowed = open_sequences(name, "train", channels=3, max_pixels=pixels)
    assert allowed.read(0, [0])[0]["image"].shape == (HEIGHT, WIDTH, 3)
    videos = open_sequences(name, "train", channels=3, max_pixels=pixels - 1)
    for look in (videos.frames, lambda index: videos.read(index, [0])):
        with pytest.raises(CorruptImage, match=rf"max_pixels is {pixels - 1:,}"):
            look(0)


def test_frames_are_counted_once_on_a_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, decoded = tmp_path / "videos", []
    write(root / "train" / "bar" / "a.mp4", pictures())
    write(root / "train" / "bar" / "b.mp4", pictures()[:7])
    whole = Videos._decoded

    def counting(self, index):
        decoded.append(index)
        return whole(self, index)

    monkeypatch.setattr(Videos, "_decoded", counting)
    assert [opened(root).frames(index) for index in (0, 1)] == [LENGTH, 7]
    assert decoded == [0, 1]
    assert [opened(root).frames(index) for index in (1, 0)] == [7, LENGTH]
    assert decoded == [0, 1]
    # Of another file in its place, and by another bound, nothing is known.
    write(root / "train" / "bar" / "b.mp4", pictures()[:9])
    assert opened(root).frames(1) == 9
    assert Videos(str(root), "train", 3, 10**6).frames(0) == LENGTH
    assert decoded == [0, 1, 1, 0]
    (kept,) = (tmp_path / "cache").rglob("frames-of-videos.jsonl")
    # A line that a kill cut off costs its count alone.
    kept.write_bytes(kept.read_bytes()[:-9])
    assert opened(root).frames(1) == 9
    assert Videos(str(root), "train", 3, 10**6).frames(0) == LENGTH
    assert decoded == [0, 1, 1, 0, 0]


def test_where_counts_cannot_be_kept_they_are_made_again(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write(tmp_path / "videos" / "train" / "bar" / "a.mp4", pictures()[:5])
    assert [opened(tmp_path / "videos").frames(0) for _ in range(2)] == [5, 5]
