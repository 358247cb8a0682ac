"""Clips classified: what order alone says, and which clips of which sequences are counted."""

import dataclasses

import jax
import numpy as np
import pytest
from clips_of_dots import CLASSES, SIDE, dot, write_clip, write_dots

from distill.data import DataConfig
from distill.data.sequences import clip_frames, clip_starts, open_sequences
from distill.errors import RunFailed, UserError
from distill.evaluate import clip_classifier
from distill.evaluate.clips import Squares, choose, lengths_of
from distill.evaluate.features import Features
from distill.evaluate.video import VideoConfig
from distill.evaluate.video_evaluation import Labelled, VideoEvaluation
from distill.evaluation_view import EvaluationView
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject
from students import vit

SHAPE = dict(image_size=SIDE, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0)


@pytest.fixture(scope="module")
def model():
    """A random transformer that tells the columns of a dot apart."""
    network = vit.build(vit.configure("mu/4", **SHAPE)).placed(make_mesh(MeshConfig()))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(0.5 * rng.standard_normal(leaf.shape)), network.abstract_params
    )
    params["patch_embed"]["linear"]["kernel"] *= 4
    return network, jax.device_put(params, network.shardings)


def subject(network, **choices):
    return Subject(
        **dict(
            place="here",
            network=network,
            class_names=(),
            view=EvaluationView(crop=1.0, resize="squash"),
            data=DataConfig(threads=1),
            split=None,
            metrics=lambda images: None,
            view_size=SIDE,
            batch_size=32,
        )
        | choices
    )


def config(root, **choices):
    small = dict(frames=SIDE, stride=1, clips=2, steps=2, depth=1, batch_size=12)
    return VideoConfig(source=f"clips:{root}", **small | choices)


@pytest.mark.slow
def test_a_transformer_sees_what_the_mean_over_time_cannot(model, tmp_path):
    network, params = model
    write_dots(tmp_path, 9)
    asked = config(tmp_path, steps=300, depth=2, learning_rate=3e-3, clips=1)
    evaluation = asked.build("clips", subject(network))
    found = evaluation(params)
    assert found["clips/accuracy"] > 0.8
    # A dot that goes round once has the same mean whichever way it goes.
    assert found["clips/mean_over_time/accuracy"] == 0.5
    assert found.keys() == {"clips/accuracy", "clips/mean_over_time/accuracy"}
    details = evaluation.about()["details"]
    assert details["counts"]["accuracy"] == [round(18 * found["clips/accuracy"]), 18]
    assert evaluation.seen() == [
        f"18 sequences of clips:{tmp_path}, 2 classes, 1 clip of 8 frames each; 18 sequences to "
        "learn from"
    ]
    assert evaluation(params) == found and not evaluation.missing


def brightness(source):
    """In place of a model: a frame's mean, the place of its dot, and how many were read."""
    pixels = [np.asarray(source.read(n)["image"], np.float32) for n in range(len(source))]
    values = [[one.mean(), one.mean((0, 2)).argmax(), one.std()] for one in pixels]
    return Features(
        np.array(values, np.float32), np.zeros(len(source), np.int32), np.arange(len(source))
    )


def test_each_frame_that_is_needed_is_embedded_once(tmp_path):
    for number, length in enumerate((12, 3, 7)):
        write_clip(tmp_path / "train" / "a" / f"{number}", dot(number, 1, length))
    sequences = open_sequences(f"clips:{tmp_path}", "train", channels=3)
    lengths = lengths_of(sequences, np.array([True, True, False]))
    assert lengths.tolist() == [12, 3, 0]
    begins = lambda _, length: clip_starts(length, 4, 2, 3)  # noqa: E731
    clips = choose(sequences, lengths, begins, frames=4, stride=2)
    assert clips.sequence.tolist() == [0, 0, 0, 1, 1, 1]
    wanted = {(0, one) for start in (0, 2, 5) for one in range(start, start + 8, 2)}
    assert {*map(tuple, clips.source.chosen.tolist())} == wanted | {(1, 0), (1, 1), (1, 2)}
    assert len(clips.source) == len(wanted) + 3
    found = clips.embedded(brightness)
    for number, (sequence, rows) in enumerate(zip(found.sequence, found.rows, strict=True)):
        length = int(lengths[sequence])
        frames = clip_frames(length, 4, 2, int(begins(0, length)[number % 3]))
        assert found.frames[rows, 1].tolist() == [(sequence + one) % SIDE for one in frames]
    each = [found.frames[found.rows[found.sequence == n]].reshape(-1, 3) for n in (0, 1)]
    np.testing.assert_allclose(found.means(), [one.mean(0) for one in each], rtol=1e-6)


def test_squares_are_at_the_ends_of_the_longer_side(tmp_path):
    picture = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    write_clip(tmp_path / "train" / "a" / "wide", [picture])
    write_clip(tmp_path / "train" / "a" / "tall", [picture.transpose(1, 0, 2)])
    sequences = open_sequences(f"clips:{tmp_path}", "train", channels=3)
    clips = choose(sequences, np.array([1, 1]), lambda *_: np.array([0]), frames=1, stride=1)
    for end, part in ((0, picture[:, :5]), (1, picture[:, 4:])):
        tall, wide = (Squares(clips.source, end).read(n)["image"] for n in range(2))
        np.testing.assert_array_equal(wide, part)
        np.testing.assert_array_equal(tall, part.transpose(1, 0, 2))


@pytest.fixture
def untrained(monkeypatch):
    """Nothing is fitted; probabilities are those that a test gives, a list for each image."""
    given = []
    monkeypatch.setattr(clip_classifier, "fit_temporal", lambda *_: None)
    monkeypatch.setattr(clip_classifier, "class_probabilities", lambda *_: given.pop(0))
    return given


def test_the_softmax_is_averaged_over_clips_and_crops(model, tmp_path, untrained):
    network, params = model
    write_dots(tmp_path, 2, length=12)
    # Of 4 sequences of 2 clips, in 3 crops; sequences are of left, left, right, right.
    crops = np.random.default_rng(0).dirichlet([1, 1], (3, 8))
    crops[0, 0], crops[1:, :2] = [0.99, 0.01], [0.4, 0.6]
    untrained += [*crops]
    found = config(tmp_path, crops=3).build("clips", subject(network))(params)
    right = 0
    for sequence, label in enumerate((0, 0, 1, 1)):
        mean = sum(crops[crop][2 * sequence + clip] for crop in range(3) for clip in range(2)) / 6
        right += int(mean[label] > mean[1 - label])
    assert found["clips/accuracy"] == right / 4
    assert not untrained


def test_five_of_six_classes(model, tmp_path, untrained):
    network, params = model
    for split in ("train", "test"):
        for name in "abcdef":
            write_clip(tmp_path / split / name / "0", dot(0, 1, SIDE))
    shares = np.tile(np.array([6, 5, 4, 3, 2, 1]) / 21, (6, 1))
    untrained.append(shares)
    evaluation = config(tmp_path, clips=1).build("clips", subject(network))
    found = evaluation(params)
    assert found["clips/accuracy"] == pytest.approx(1 / 6)
    assert found["clips/top5_accuracy"] == pytest.approx(5 / 6)
    assert evaluation.about()["details"]["counts"]["top5_accuracy"] == [5, 6]


def test_sequences_shorter_than_a_clip_are_looped_and_counted(model, tmp_path):
    network, params = model
    write_dots(tmp_path, 2, length=12)
    write_clip(tmp_path / "test" / "left" / "short", dot(0, -1, 3))
    write_clip(tmp_path / "test" / "right" / "one_frame", dot(0, 1, 1))
    evaluation = config(tmp_path).build("clips", subject(network))
    assert 0 <= evaluation(params)["clips/accuracy"] <= 1
    assert "6 sequences of" in evaluation.seen()[0]
    assert "each (2 shorter than a clip, looped); 4 sequences" in evaluation.seen()[0]
    assert evaluation.about()["details"]["sequences"]["test"]["looped"] == 2


def break_frame(file):
    file.write_bytes(file.read_bytes()[:40])


def test_clips_with_a_broken_frame_are_left_out_and_sequences_of_no_others_counted(model, tmp_path):
    network, params = model
    write_dots(tmp_path, 4, length=12)
    # Of two clips, frames 0 to 7 and 4 to 11, the first is broken; of the next sequence both.
    break_frame(tmp_path / "test" / "left" / "0" / "00001.png")
    break_frame(tmp_path / "test" / "left" / "1" / "00005.png")
    break_frame(tmp_path / "train" / "right" / "2" / "00000.png")
    evaluation = config(tmp_path).build("clips", subject(network))
    evaluation(params)
    said = evaluation.about()["details"]["sequences"]
    assert said["test"] == {"sequences": 7, "left_out": 1, "looped": 0}
    assert said["train"] == {"sequences": 8, "left_out": 0, "looped": 0}
    assert "1 that cannot be decoded left out" in evaluation.seen()[0]
    assert evaluation.about()["details"]["counts"]["accuracy"][1] == 7
    break_frame(tmp_path / "test" / "right" / "3" / "00005.png")
    with pytest.raises(RunFailed, match=r"2 of 8 sequences could not .* share of 0\.01 .*right/3"):
        evaluation(params)
    lenient = subject(network, data=DataConfig(threads=1, max_corrupt_share=0.3))
    assert config(tmp_path).build("clips", lenient)(params)
    strict = subject(network, data=DataConfig(threads=1, max_corrupt_share=0.0))
    with pytest.raises(RunFailed, match=r"share of 0\.0 "):
        config(tmp_path).build("clips", strict)(params)


def test_sequences_without_a_label_are_left_out(model, tmp_path, caplog):
    network, params = model
    write_dots(tmp_path, 2, length=12)
    asked = config(tmp_path)
    train, test = (open_sequences(asked.source, split, channels=3) for split in ("train", "test"))

    def evaluated(of_train, of_test):
        evaluation = VideoEvaluation(
            "clips",
            asked,
            subject(network),
            Labelled(train, np.array(of_train, np.int32), "train"),
            Labelled(test, np.array(of_test, np.int32), "test"),
        )
        return evaluation, evaluation(params)

    evaluation, found = evaluated([0, 0, 1, -1], [0, -1, 1, 1])
    assert evaluation.about()["details"]["counts"]["accuracy"][1] == 3 and len(found) == 2
    assert "1 of 4 sequences of test lack a label" in caplog.text
    evaluation, found = evaluated([0, 0, 1, 1], [-1] * 4)
    assert found == {} and evaluation.seen() == []
    assert evaluation.missing == {"clips/accuracy", "clips/mean_over_time/accuracy"}
    assert "no sequence to classify can be decoded and has a label" in caplog.text
    with pytest.raises(UserError, match="none of 4 sequences to learn from"):
        evaluated([-1] * 4, [0, 0, 1, 1])


def test_one_class_is_said(model, tmp_path):
    network, params = model
    for split in ("train", "test"):
        write_clip(tmp_path / split / "left" / "0", dot(0, 1, SIDE))
    evaluation = config(tmp_path).build("clips", subject(network))
    assert any("one class only, 'left'" in remark for remark in evaluation.remarks)
    assert evaluation(params)["clips/accuracy"] == 1


def test_what_is_wrong_with_several_keys_is_said_together(model, tmp_path):
    write_dots(tmp_path, 2)
    asked = config(tmp_path, train_split="trian", test_split="tset", attention_heads=3)
    with pytest.raises(UserError, match=r"(?s)'trian'.*'tset'.*is not divisible by"):
        asked.build("clips", subject(model[0]))


def test_classes_go_by_name(model, tmp_path, untrained):
    network, params = model
    for split, classes in (("train", "abc"), ("test", "c")):
        for name in classes:
            write_clip(tmp_path / split / name / "0", dot(0, 1, SIDE))
    untrained.append(np.array([[0.1, 0.2, 0.7]]))
    asked = config(tmp_path, clips=1)
    assert asked.build("clips", subject(network))(params)["clips/accuracy"] == 1
    write_clip(tmp_path / "test" / "d" / "0", dot(0, 1, SIDE))
    with pytest.raises(UserError, match=r"split 'test' .* has classes that 'train' lacks: d;"):
        asked.build("clips", subject(network))
    with pytest.raises(UserError, match="to learn from and those to classify are the same"):
        config(tmp_path, test_split="train").build("clips", subject(network))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(frames=0), "frames must be a whole number from 1"),
        (dict(stride=0), "stride must be a whole number from 1"),
        (dict(crops=2), "crops must be one of 1, 3"),
        (dict(width=10, attention_heads=3), "width 10 is not divisible by attention_heads 3"),
        (dict(learning_rate=0.0), "learning_rate must be a number from 1e-18"),
        (dict(stored="int8"), "stored must be one of"),
    ],
)
def test_values_out_of_bounds_are_said(choices, message):
    with pytest.raises(ValueError, match=message):
        config("/data", **choices)


def test_heads_that_do_not_fit_the_embedding_are_said(model, tmp_path):
    write_dots(tmp_path, 1)
    with pytest.raises(UserError, match=r"embeddings 32 wide: width 32 is not divisible by head"):
        config(tmp_path, attention_heads=3).build("clips", subject(model[0]))


def test_draws_are_of_seed_and_step(tmp_path):
    sequence = np.repeat(np.arange(5), [3, 1, 2, 4, 1])
    draws = clip_classifier.Draws(sequence, 3, seed=0)
    first = [draws(step) for step in range(10)]
    assert all(np.array_equal(draws(step), first[step]) for step in (4, 0, 9))
    assert not np.array_equal(
        np.stack(first), [clip_classifier.Draws(sequence, 3, seed=1)(s) for s in range(10)]
    )
    # Each epoch has every sequence once, whatever batches it is cut into.
    shown = sequence[np.concatenate(first)].reshape(-1, 5)
    assert (np.sort(shown, axis=1) == np.arange(5)).all()
    assert len({*np.concatenate(first).tolist()}) > 8
    many = clip_classifier.Draws(sequence, 64, seed=0)
    assert sorted(sequence[many(3)]) == [0, 1, 2, 3, 4]


def test_videos_are_as_the_frames_they_were_made_of(model, tmp_path):
    av = pytest.importorskip("av")
    network, params = model
    for split in ("train", "test"):
        for name, step in zip(CLASSES, (-1, 1), strict=True):
            frames = dot(0, step, 12).repeat(8, axis=1).repeat(8, axis=2)
            write_clip(tmp_path / "frames" / split / name / "0", frames)
            file = tmp_path / "videos" / split / name / "0.mp4"
            file.parent.mkdir(parents=True)
            with av.open(str(file), "w") as container:
                stream = container.add_stream("mpeg4", rate=25)
                stream.width = stream.height = 8 * SIDE
                stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
                for pixels in frames:
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
    asked = config(tmp_path / "frames")
    found = []
    for one in (asked, dataclasses.replace(asked, source=f"videos:{tmp_path / 'videos'}")):
        evaluation = one.build("clips", subject(network))
        clips = evaluation._chosen(evaluation._train, evaluation._train_begins)
        found.append((clips, clips.embedded(brightness)))
    np.testing.assert_array_equal(found[0][0].source.chosen, found[1][0].source.chosen)
    np.testing.assert_array_equal(found[0][1].rows, found[1][1].rows)
    np.testing.assert_allclose(found[0][1].frames[:, 0], found[1][1].frames[:, 0], atol=2)
    assert evaluation(params).keys() == {"clips/accuracy", "clips/mean_over_time/accuracy"}
    # A video that is cut short is left out.
    broken = tmp_path / "videos" / "test" / "left" / "1.mp4"
    broken.write_bytes(b"no video")
    again = one.build("clips", subject(network))
    again(params)
    assert again.about()["details"]["sequences"]["test"]["left_out"] == 1


def test_embeddings_that_float16_cannot_hold_are_said(model, tmp_path):
    network, params = model
    write_dots(tmp_path, 2)
    evaluation = config(tmp_path, stored="float16").build("clips", subject(network))
    assert evaluation(params)
    huge = jax.tree.map(lambda leaf: leaf, params)
    huge["encoder"]["norm"]["scale"] = params["encoder"]["norm"]["scale"] * 1e6
    if network.config.head == "map":
        huge["head"] = jax.tree.map(lambda leaf: leaf * 1e3, params["head"])
    with pytest.raises(RunFailed, match=r"the embedding of .* frame \d+ is not finite"):
        evaluation(huge)
