"""Segmentation and depth by frozen tokens, beside a loop over windows."""

import dataclasses
import itertools

import dense_images as data
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import confusion_matrix

from distill.dense_view import DenseView
from distill.errors import RunFailed, UserError
from distill.evaluate.depth import DepthConfig
from distill.evaluate.segmentation import SegmentationConfig

SPLITS = dict(train_split="train", test_split="val")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("depths"), depths=True)


def segmentation(root, **choices):
    return SegmentationConfig(source=f"masks:{root}", **SPLITS, **choices)


def measured(config, subject=None):
    subject = subject or data.subject()
    return config.build("seg", subject)(data.drawn(subject.network))


class Transcription:
    """Windows, tokens, targets and scores of images, one after another, in float64 where it is."""

    def __init__(self, subject, layers=(2,), normed=True, class_token=False, stride=8):
        self.subject, self.params = subject, data.drawn(subject.network)
        self.layers, self.normed, self.class_token = layers, normed, class_token
        self.stride = stride

    def tokens(self, window):
        """[4, 4, F] of a window's pixels."""
        x = window[None].astype(np.float32) / 127.5 - 1
        _, found = self.subject.network.with_layers(
            self.params, jnp.asarray(x), self.layers, normed=self.normed
        )
        parts = [found.patches[0, k] for k in range(len(self.layers))]
        if self.class_token:
            parts += [
                jnp.broadcast_to(found.class_token[0, k], (4, 4, 16))
                for k in range(len(self.layers))
            ]
        return np.concatenate([np.asarray(one, np.float64) for one in parts], axis=-1)

    @staticmethod
    def places(length, stride):
        return sorted({*range(0, length - 16, stride), length - 16})

    def windows(self, image, stride):
        rows, columns = (self.places(length, stride) for length in image.shape[:2])
        return itertools.product(rows, columns)

    def learnt(self, images, known, target, l2):
        """A ridge regression of all patches of windows side by side."""
        x, y = [], []
        for image, array in zip(images, known, strict=True):
            for top, left in self.windows(image, 16):
                tokens = self.tokens(image[top : top + 16, left : left + 16])
                for row, column in itertools.product(range(4), range(4)):
                    at = top + 4 * row, left + 4 * column
                    wanted = target(array[at[0] : at[0] + 4, at[1] : at[1] + 4])
                    if wanted is not None:
                        x.append(tokens[row, column])
                        y.append(wanted)
        x, y = np.array(x), np.array(y)
        self.mean, self.std = x.mean(axis=0), x.std(axis=0) + 1e-5
        self.ridge = Ridge(alpha=l2 * len(x)).fit((x - self.mean) / self.std, y)

    def predicted(self, image, output=lambda scores: scores):
        """Scores of each pixel, averaged over overlapping windows, resized by torch."""
        total, times = 0.0, np.zeros(image.shape[:2])
        for top, left in self.windows(image, self.stride):
            tokens = self.tokens(image[top : top + 16, left : left + 16])
            flat = (tokens.reshape(16, -1) - self.mean) / self.std
            scores = output(self.ridge.predict(flat).reshape(4, 4, -1))
            large = (
                torch.nn.functional.interpolate(
                    torch.from_numpy(scores.transpose(2, 0, 1)[None]),
                    size=(16, 16),
                    mode="bilinear",
                )[0]
                .numpy()
                .transpose(1, 2, 0)
            )
            whole = np.zeros((*image.shape[:2], large.shape[-1]))
            whole[top : top + 16, left : left + 16] = large
            total = total + whole
            times[top : top + 16, left : left + 16] += 1
        return total / times[..., None]


def scenes(split, count):
    return zip(
        *(data.scene((split, n), data.SIZES[n % len(data.SIZES)]) for n in range(count)),
        strict=True,
    )


def shares(patch):
    seen = patch[patch != 255]
    return np.bincount(seen, minlength=3) / len(seen) if seen.size else None


@pytest.mark.parametrize(
    "view",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"layers": (2, 1), "normed": False, "class_token": True, "stride": 12},
    ],
    ids=str,
)
def test_segmentation_is_that_of_a_loop_over_windows_with_sklearns_confusion(masks, view):
    subject = data.subject()
    reference = Transcription(subject, **view)
    reference.learnt(*scenes(0, 10), shares, 0.01)
    truth, found = [], []
    for image, label in zip(*scenes(1, 4), strict=True):
        prediction = reference.predicted(image).argmax(axis=-1)
        truth.append(label[label != 255])
        found.append(prediction[label != 255])
    matrix = confusion_matrix(np.concatenate(truth), np.concatenate(found), labels=range(3))
    config = segmentation(masks, l2=0.01, tokens=DenseView(**view))
    evaluation = config.build("seg", subject)
    metrics = evaluation(reference.params)
    assert metrics.keys() == evaluation.metrics(reference.params)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diagonal(matrix)
    assert metrics["seg/mean_iou"] == pytest.approx(np.mean(np.diagonal(matrix) / union), abs=1e-6)
    accuracy = np.trace(matrix) / matrix.sum()
    assert metrics["seg/pixel_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert 0.4 < metrics["seg/pixel_accuracy"] < 1 and metrics["seg/l2"] == 0.01
    rows = evaluation.about()["details"]["classes"]["1"]
    assert [row["labelled"] for row in rows] == matrix.sum(axis=1).tolist()
    assert [row["class"] for row in rows] == list(data.CLASSES)
    assert evaluation.seen() == [f"4 images of masks:{masks}; 10 images to learn from"]


def test_depth_is_that_of_a_loop_over_windows(depths):
    subject = data.subject()
    reference = Transcription(subject)

    def logarithm(patch):
        known = patch[np.isfinite(patch)]
        return [np.log(known.astype(np.float64)).mean()] if known.size else None

    def known(labels):
        return [np.where(one == 255, np.nan, data.DEPTHS[one % 3]) for one in labels]

    images, labels = scenes(0, 10)
    reference.learnt(images, known(labels), logarithm, 0.1)
    images, labels = scenes(1, 4)
    errors, ratios = [], []
    for image, depth in zip(images, known(labels), strict=True):
        valid = np.isfinite(depth)
        p, d = reference.predicted(image, np.exp)[..., 0][valid], depth[valid].astype(np.float64)
        errors.append(np.sqrt(np.mean((p - d) ** 2)))
        ratios.append(np.mean(np.maximum(p / d, d / p) < 1.25))
    config = DepthConfig(source=f"depth:{depths}", **SPLITS, l2=0.1)
    evaluation = config.build("depth", subject)
    metrics = evaluation(reference.params)
    assert metrics.keys() == evaluation.metrics(reference.params)
    assert metrics["depth/rmse"] == pytest.approx(np.mean(errors), abs=1e-5)
    assert metrics["depth/delta1"] == pytest.approx(np.mean(ratios), abs=1e-6)
    assert metrics["depth/aligned/rmse"] <= metrics["depth/rmse"]


@pytest.mark.slow
def test_figures_do_not_depend_on_the_batch(masks):
    for probe in ("ridge", "logistic", "neighbours"):
        config = segmentation(masks, probe=probe, neighbours=3, fractions=(0.3, 1.0))
        found = [measured(config, data.subject(size)) for size in (1, 5, 64)]
        told = config.build("seg", data.subject()).metrics(None)
        assert found[0].keys() == told, probe
        for other in found[1:]:
            assert other == pytest.approx(found[0], abs=1e-6), probe
        assert found[0]["seg/mean_iou"] > 0.4 and "seg/0.3/mean_iou" in found[0]


def test_a_fraction_is_what_is_learnt_of_its_images_alone(masks, tmp_path):
    config = segmentation(masks, l2=0.1, fractions=(0.5, 1.0), seed=3)
    some = measured(config)
    order = np.random.default_rng(3).permutation(10)[:5]
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
            for path in (masks / kind / split).iterdir():
                if split == "val" or int(path.stem) in order:
                    (tmp_path / kind / split / path.name).write_bytes(path.read_bytes())
    (tmp_path / "classes.txt").write_text("\n".join(data.CLASSES))
    alone = measured(segmentation(tmp_path, l2=0.1))
    assert alone["seg/mean_iou"] == pytest.approx(some["seg/0.5/mean_iou"], abs=1e-6)
    assert alone["seg/mean_iou"] != some["seg/mean_iou"]


def test_whole_images_are_seen_at_their_size_and_with_a_warning(masks):
    config = segmentation(masks, tokens=DenseView(seen="whole"))
    evaluation = config.build("seg", data.subject())
    assert "other grids of patches than that of 16×16 pixels" in evaluation.remarks[-1]
    found = evaluation(data.drawn(data.subject().network))
    windows = measured(segmentation(masks))
    assert found["seg/mean_iou"] != windows["seg/mean_iou"]
    assert evaluation.about()["view"]["seen"] == "whole"


def test_small_images_are_enlarged_to_a_window():
    view = DenseView()
    assert view.resized((10, 20), 16, 4) == (16, 32)
    assert view.resized((17, 40), 16, 4) == (17, 40)
    assert DenseView(short_side=32).resized((64, 99), 16, 4) == (32, round(99 / 2))
    assert DenseView(seen="whole").resized((17, 42), 16, 4) == (16, 40)
    assert DenseView(seen="whole", short_side=11).resized((20, 2), 16, 4) == (112, 12)
    assert [DenseView().step(side, patch) for side, patch in ((224, 16), (16, 4), (4, 4))] == [
        144, 8, 4,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "view, said",
    [
        (dict(layers=(3,)), "no layer 3; its layers are 1 to 2"),
        (dict(class_token=True), "no class token; set class_token=false"),
        (dict(stride=20), "a stride of 20 pixels leaves some unseen by windows of 16"),
        (dict(short_side=12), "do not fit into images whose shorter side is 12"),
    ],
)
def test_what_a_model_cannot_be_shown_is_refused(masks, view, said):
    config = segmentation(masks, tokens=DenseView(**view))
    with pytest.raises(UserError, match=said):
        config.build("seg", data.subject(head="gap"))


@pytest.mark.parametrize(
    "choices, said",
    [
        (dict(fractions=(0.0,)), "fractions must be a number above 0 to 1, not 0.0"),
        (dict(fractions=(0.5, 0.5)), "0.5"),
        (dict(l2=0.0), "l2 must be a number from"),
        (dict(tokens=DenseView, view=dict(layers=(0,))), "layers must be a whole number from 1"),
        (dict(tokens=DenseView, view=dict(seen="whole", stride=4)), "stride is that of windows"),
    ],
)
def test_values_out_of_bounds_are_refused(choices, said):
    view = choices.pop("view", None)
    with pytest.raises(ValueError, match=said):
        SegmentationConfig(**(choices | ({} if view is None else {"tokens": DenseView(**view)})))


def test_a_depth_has_no_classes_and_limits_are_positive():
    with pytest.raises(ValueError, match="probe=ridge"):
        DepthConfig(probe="logistic")
    with pytest.raises(ValueError, match="limits must be a number from 1e-18"):
        DepthConfig(limits=(0.0, 10.0))


def test_data_without_masks_or_split_is_refused(masks, depths):
    with pytest.raises(UserError, match=r"has image, label, depth of its .* and no segmentation"):
        dataclasses.replace(segmentation(masks), source=f"depth:{depths}").build(
            "seg", data.subject()
        )
    with pytest.raises(UserError, match=r"config\.evals\.seg\.test_split"):
        dataclasses.replace(segmentation(masks), test_split=None).build("seg", data.subject())
    assert SegmentationConfig().build("seg", data.subject()) is None


def test_a_label_that_is_no_class_names_its_file(masks, tmp_path):
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (tmp_path / kind / split).mkdir(parents=True)
            for path in (masks / kind / split).iterdir():
                (tmp_path / kind / split / path.name).write_bytes(path.read_bytes())
    (tmp_path / "classes.txt").write_text("sky\ngrass")
    with pytest.raises((UserError, RunFailed), match=r"train/\d\d\.png has the label 2"):
        measured(segmentation(tmp_path))


def test_images_that_cannot_be_decoded_are_left_out(masks, tmp_path):
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (tmp_path / kind / split).mkdir(parents=True)
            for path in (masks / kind / split).iterdir():
                (tmp_path / kind / split / path.name).write_bytes(path.read_bytes())
    (tmp_path / "classes.txt").write_text("\n".join(data.CLASSES))
    broken = tmp_path / "images" / "val" / "01.png"
    broken.write_bytes(broken.read_bytes()[:100])
    subject = data.subject()
    evaluation = segmentation(tmp_path).build("seg", subject)
    evaluation(data.drawn(subject.network))
    assert evaluation.seen()[0].startswith("3 images")


def test_images_all_of_which_are_ignored_have_no_figures(tmp_path):
    root = data.write(tmp_path)
    for path in (root / "masks" / "val").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(path)), 255)).save(path)
    subject = data.subject()
    evaluation = segmentation(root).build("seg", subject)
    metrics = evaluation(data.drawn(subject.network))
    assert [*metrics] == ["seg/l2"]
    assert "seg/mean_iou" in evaluation.missing


def test_images_and_split_that_are_missing_are_named(masks):
    only = dataclasses.replace(segmentation(masks), test_split=None)
    assert (only.names_data, only.unnamed) == (False, "test_split")
    assert SegmentationConfig().unnamed == "source" and segmentation(masks).names_data
    with pytest.raises(UserError, match=r"train would be both learnt from and predicted"):
        measured(dataclasses.replace(only, test_split="train"))
    with pytest.raises(UserError, match=r"config\.evals\.seg\.test_split names another"):
        dataclasses.replace(only, test_split="none").build("seg", data.subject())


def test_an_image_that_would_be_too_large_is_refused(masks):
    for view in (dict(short_side=16_384), dict(short_side=1000, seen="whole")):
        config = segmentation(masks, tokens=DenseView(**view))
        with pytest.raises(UserError, match=r"give a smaller tokens\.short_side"):
            measured(config)


def test_what_is_lacking_to_learn_from_is_said(tmp_path, depths):
    root = data.write(tmp_path, (("train", 1), ("val", 2)))
    with pytest.raises(UserError, match=r"1 image of masks:\S+ train has a labelled pixel; .*\.l2"):
        measured(segmentation(root))
    assert "seg/mean_iou" in measured(segmentation(root, l2=0.1))
    far = DepthConfig(source=f"depth:{depths}", **SPLITS, limits=(100.0, 200.0), l2=0.1)
    with pytest.raises(UserError, match=r"no images .* a depth between 100 and 200 \(config\."):
        measured(far)
    eigen = DepthConfig(source=f"depth:{depths}", **SPLITS, part="eigen")
    with pytest.raises(UserError, match=r"give config\.evals\.seg\.part=all"):
        measured(eigen)


def test_images_learnt_from_are_those_that_can_be(masks, tmp_path):
    root = data.write(tmp_path)
    mask = root / "masks" / "train" / "03.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(mask)), 255)).save(mask)
    broken = root / "images" / "train" / "05.png"
    broken.write_bytes(broken.read_bytes()[:90])
    subject = data.subject()
    evaluation = segmentation(root, l2=0.1).build("seg", subject)
    evaluation(data.drawn(subject.network))
    assert evaluation.seen()[0].endswith("; 8 images to learn from")
    about = evaluation.about()["view"]
    assert (about["window"], about["stride"], about["layers"]) == (16, 8, [2])
