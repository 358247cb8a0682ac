"""Accuracies on sets, against plain Python."""

import json
import random
from fractions import Fraction

import numpy as np
import pytest

from distill.analysis.intervals import wilson_interval
from distill.analysis.label_spaces.data_files import imagenet21k_wnids, imagenet_wnids
from distill.analysis.label_spaces.label_space import LabelSpace, known_label_spaces
from distill.analysis.label_spaces.scoring import LabelSpaceConfig, ScoredSet, score
from distill.analysis.label_spaces.whole_set import remarks_on_undeclared
from distill.analysis.predictions import Predictions
from distill.errors import UserError

SPACES = known_label_spaces()
WNIDS = imagenet_wnids()
IMAGES = 60


def predictions(names, *, scores=None, class_names=WNIDS, labels=None, scale="logits", seed=0):
    names, class_names = np.array(names, dtype=str), tuple(class_names)
    if scores is None:
        # Of few values, so that some are equal.
        shape = len(names), len(class_names)
        scores = np.random.default_rng(seed).integers(400, size=shape).astype(np.float32)
    labels = np.full(len(names), -1) if labels is None else np.asarray(labels)
    return Predictions(
        scores=scores, scale=scale, class_names=class_names, labels=labels, names=names
    )


def images_of(name: str, count: int = IMAGES) -> list[str]:
    """Names as the set's layout has them, in random order."""
    drawn = random.Random(1)
    if name in ("imagenet", "real"):
        numbers = drawn.sample(range(1, 50_001), count)
        return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]
    if name.startswith("imagenet_v2"):
        return [f"{drawn.randrange(1000)}/{n}.jpeg" for n in range(count)]
    return [f"{drawn.choice(SPACES[name].class_names)}/{n}.jpg" for n in range(count)]


def plainly(scores: list[float], classes: list[set[int]], right: set[int]) -> tuple[bool, bool]:
    """Whether the best class, and one of the best five, is right, by sorting."""
    order = sorted(
        range(len(classes)), key=lambda one: (-max(scores[n] for n in classes[one]), one)
    )
    return order[0] in right, bool({*order[:5]} & right)


def shares(found: list[tuple[bool, bool]]) -> dict:
    correct, top5 = (sum(column) for column in zip(*found, strict=True))
    n = len(found)
    return {
        "correct": correct,
        "accuracy": correct / n,
        "interval": [*wilson_interval(correct, n)],
        "top5_correct": top5,
        "top5_accuracy": top5 / n,
        "top5_interval": [*wilson_interval(top5, n)],
    }


@pytest.mark.parametrize("name", SPACES)
def test_accuracies_are_those_of_plain_python(name):
    space, shown = SPACES[name], predictions(images_of(name))
    # What is right gets high scores in most images, so that there is something to count.
    for row, image in enumerate(shown.names.tolist()):
        for place in space.accepted(image)[:1]:
            shown.scores[row, space.members[place][-1]] = 385 + row % 16
    found, classes = score(shown, space).as_json(), [{*one} for one in space.members]
    own, among_all = [], []
    for image, row in zip(shown.names.tolist(), shown.scores.tolist(), strict=True):
        right = {*space.accepted(image)}
        if right:
            own.append(plainly(row, classes, right))
            numbers = {number for place in right for number in space.members[place]}
            among_all.append(plainly(row, [{number} for number in range(1000)], numbers))
    assert 0 < sum(top1 for top1, _ in own) < sum(top5 for _, top5 in own) < len(own)
    assert found.pop("among_all") == {"classes": 1000} | shares(among_all)
    expected = {"classes": len(classes), "images": len(own), "left_out": IMAGES - len(own)}
    expected |= {"label_space": name, "published_images": space.images} | shares(own)
    del found["remarks"]
    assert found == expected


def test_any_of_several_classes_of_imagenet_is_right_by_both_conventions():
    space = SPACES["objectnet"]
    for which in (0, -1):
        shown = predictions([f"{folder}/1.png" for folder in space.class_names])
        for row, members in enumerate(space.members):
            shown.scores[row, members[which]] = 500
        found = score(shown, space).as_json()
        assert found["correct"] == found["among_all"]["correct"] == 113
        # A tench, which is of no folder, comes before.
        shown.scores[:, 0] = 501
        found = score(shown, space).as_json()
        assert (found["correct"], found["among_all"]["correct"]) == (113, 0)
        assert found["among_all"]["top5_correct"] == 113


def test_fewer_classes_never_make_a_subset_harder():
    found = score(predictions(images_of("imagenet_r")), SPACES["imagenet_r"])
    assert (found.rank <= found.rank_among_all).all()
    assert (found.rank < found.rank_among_all).any()


def test_confidences_sum_up_to_one_among_the_sets_classes():
    shown, space = predictions(images_of("imagenet_a")), SPACES["imagenet_a"]
    shown.scores[:] /= 100
    found = score(shown, space)
    numbers = [number for (number,) in space.members]
    rest = shown.probabilities()[:, numbers]
    expected = rest / rest.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.predictions.probabilities(), expected, rtol=1e-6)
    as_probabilities = predictions(shown.names, scores=shown.probabilities(), scale="probabilities")
    again = score(as_probabilities, space)
    np.testing.assert_allclose(again.predictions.probabilities(), expected, rtol=1e-6)
    np.testing.assert_array_equal(again.rank, found.rank)
    assert found.predictions.class_names == space.class_names


def test_the_label_of_an_image_with_several_is_the_one_the_model_prefers():
    # Its list is [970, 795].
    shown = predictions(["ILSVRC2012_val_00000002.JPEG"] * 3)
    shown.scores[:] = 0
    shown.scores[0, 795], shown.scores[1, 970], shown.scores[2, [3, 795]] = 1, 1, [2, 1]
    found = score(shown, SPACES["real"])
    assert found.predictions.labels.tolist() == [795, 970, 795]
    assert found.correct.tolist() == [True, True, False] and found.rank.tolist() == [0, 0, 1]


def test_a_model_of_imagenet21k_is_asked_for_imagenets_classes_and_has_no_teddy():
    names = ["n04399382/teddy.jpg", "n01440764/tench.jpg"]
    wnids = imagenet21k_wnids()
    scores = np.zeros((2, len(wnids)), np.float32)
    scores[1, wnids.index("n01440764")] = 1
    scores[:, wnids.index("n00004475")] = 2
    for class_names, order in ((wnids, None), (range(len(wnids)), "in_order")):
        shown = predictions(names, scores=scores, class_names=map(str, class_names))
        config = LabelSpaceConfig(label_space="imagenet", model_classes=order)
        found = config.score(shown)
        assert found.rank.tolist() == [1000, 0] and found.possible.tolist() == [False, True]
        assert found.as_json()["accuracy"] == 0.5
        assert any("no class for 1 of 1,000" in one and "n04399382" in one for one in found.remarks)
        # Nothing of it is left in a softmax.
        assert found.predictions.probabilities()[0, 850] == 0


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
@pytest.mark.parametrize("scale", ["logits", "probabilities"])
def test_several_classes_of_the_model_stand_for_one(tmp_path, combine, scale):
    (tmp_path / "classes.json").write_text('{"n01440764": ["a", 2, "a"], "n01443537": "b"}')
    logits = np.log([[0.25, 0.4, 0.35], [0.1, 0.7, 0.2]])
    shown = predictions(
        ["n01440764/1.jpg", "n01440764/2.jpg"],
        scores=logits if scale == "logits" else np.exp(logits),
        scale=scale,
        class_names=("a", "b", "c"),
    )
    found = LabelSpaceConfig(
        label_space="imagenet", model_classes=str(tmp_path / "classes.json"), combine=combine
    ).score(shown)
    # 0.25 and 0.35 stand against 0.4: apart they lose, together they win.
    assert found.rank.tolist() == ([1, 1] if combine == "max" else [0, 1])
    both = [0.35 / 0.75, 0.2 / 0.9] if combine == "max" else [0.6, 0.3]
    np.testing.assert_allclose(found.predictions.probabilities()[:, 0], both, rtol=1e-6)


def test_a_set_of_ones_own_says_classes_of_images_and_folders(tmp_path):
    file = tmp_path / "own.json"
    file.write_text('{"cats": "cat", "odd.jpg": ["dog", "cat"], "unclear": [], "x/2.jpg": 2}')
    names = ["a/cats/1.jpg", "cats/odd.jpg", "unclear/1.jpg", "x/2.jpg"]
    scores = np.array([[0, 1, 9, 9], [0, 1, 0, 9], [0] * 4, [0, 0, 0, 1]], np.float32)
    shown = predictions(names, scores=scores, class_names=("cat", "dog", "owl", "other"))
    found = LabelSpaceConfig(label_space=str(file)).score(shown)
    assert found.predictions.class_names == ("cat", "dog", "owl")
    assert found.left_out == 1 and found.rank.tolist() == [2, 0, 2]
    assert found.as_json()["label_space"] == "own"
    assert found.as_json()["among_all"]["classes"] == 4


def test_a_set_of_ones_own_with_one_class_is_warned_of(tmp_path):
    file = tmp_path / "own.json"
    file.write_text('{"cats": "cat", "dogs": "cat"}')
    shown = predictions(["cats/1", "dogs/1"], scores=np.eye(2), class_names=("cat", "dog"))
    found = LabelSpaceConfig(label_space=str(file)).score(shown)
    assert "warning: own has one class only, 'cat': nothing to tell apart" in found.remarks


def test_a_set_of_ones_own_may_be_of_imagenets_classes(tmp_path):
    file = tmp_path / "own.json"
    file.write_text('{"fish": ["n01440764", "n01443537"], "hens": "n01514859"}')
    shown = predictions(["fish/1.jpg", "hens/1.jpg"], class_names=map(str, range(1000)))
    found = LabelSpaceConfig(label_space=str(file), model_classes="in_order").score(shown)
    assert found.predictions.class_names == ("n01440764", "n01443537", "n01514859")


def test_labels_say_the_classes_of_images_whose_names_say_none():
    wnids = SPACES["imagenet_a"].class_names
    labels = [WNIDS.index(wnid) for wnid in wnids[:3]]
    shown = predictions(["1.jpg", "test/2", "3"], labels=labels)
    found = score(shown, SPACES["imagenet_a"])
    assert [wnids[place] for place in found.predictions.labels] == list(wnids[:3])
    assert "images whose names say no class, so that their labels do: 3" in found.remarks


def test_labels_that_are_ranks_of_folders_are_refused():
    shown = predictions(["1.jpg", "2.jpg"], labels=[0, 1])
    with pytest.raises(UserError, match=r"1.jpg is the model's class 0, n01440764, .*ranks"):
        score(shown, SPACES["imagenet_a"])


@pytest.mark.parametrize(
    ("name", "image"),
    [("imagenet_a", "n01440764/1.jpg"), ("real", "1.jpg"), ("objectnet", "1.png")],
)
def test_no_label_speaks_for_an_image_of_another_set(name, image):
    label = SPACES["imagenet_a"].members[0]
    with pytest.raises(UserError, match=f"image {image} is none of {name}: "):
        score(predictions([image], labels=label), SPACES[name])


def test_labels_that_contradict_names_are_said():
    folders = sorted(map(str, range(1000)))[:50]
    shown = predictions([f"{folder}/1.jpeg" for folder in folders], labels=range(50))
    found = score(shown, SPACES["imagenet_v2"])
    assert found.predictions.labels.tolist() == list(map(int, folders))
    assert any(
        "labels say another class than their names, which count: 48" in one for one in found.remarks
    )


def _remarks(name: str, names: list[str]) -> str:
    return "\n".join(score(predictions(names), SPACES[name]).remarks)


def test_what_is_missing_of_a_set_is_said():
    names = [f"{label}/{n}.jpeg" for label in range(999) for n in range(10)]
    small = LabelSpace(**vars(SPACES["imagenet_v2"]) | {"images": 9_990})
    shown = predictions(names, scores=np.ones((len(names), 1000), np.float32))
    said = score(shown, small).remarks
    assert said == ("warning: classes without an image: 1 of 1,000, n15075141",)
    said = _remarks("imagenet_v2", ["7/1.jpeg", "7/2.jpeg", "7/2.jpeg"])
    assert "3 images, less than the 10,000 that are published as imagenet_v2" in said
    assert "images that are there more than once: 1" in said
    assert f"classes of fewer than 10 images: 1 of 1,000, {WNIDS[7]} 3" in said
    assert f"classes without an image: 999 of 1,000, {WNIDS[0]}" in said


def test_a_whole_set_needs_no_remark():
    names = [f"{label}/{n}.jpeg" for label in range(1000) for n in range(10)]
    shown = predictions(names, scores=np.ones((10_000, 1000), np.float32))
    found = score(shown, SPACES["imagenet_v2"])
    assert found.remarks == ()
    # Equal scores rank in the order of the classes.
    assert Fraction(found.as_json()["correct"], 10_000) == Fraction(1, 1000)


def test_objectnets_terms_are_said():
    assert "terms forbid training and tuning" in _remarks("objectnet", ["alarm_clock/1.png"])


def test_a_class_that_the_model_lacks_is_not_among_five_of_three(tmp_path):
    (tmp_path / "own.json").write_text('{"a": "n01440764", "b": "n01443537", "c": "n01484850"}')
    (tmp_path / "map.json").write_text('{"n01440764": 0, "n01443537": 1}')
    shown = predictions(["a/1.jpg", "c/1.jpg"], scores=np.eye(2), class_names=("x", "y"))
    found = LabelSpaceConfig(
        label_space=str(tmp_path / "own.json"), model_classes=str(tmp_path / "map.json")
    ).score(shown)
    assert found.as_json()["top5_correct"] == 1 and found.possible.tolist() == [True, False]


def test_an_image_of_another_set_is_named():
    shown = predictions([*images_of("imagenet_a"), "n01440764/1.jpg"])
    with pytest.raises(UserError, match=r"image n01440764/1.jpg is none of imagenet_a: .* 200"):
        score(shown, SPACES["imagenet_a"])


def test_images_none_of_which_counts_are_refused():
    with pytest.raises(UserError, match="none of 1 images counts on real"):
        score(predictions(["ILSVRC2012_val_00000001.JPEG"]), SPACES["real"])


def test_probabilities_that_say_nothing_of_the_set_are_refused():
    scores = np.zeros((1, 1000))
    scores[0, 0] = 1
    shown = predictions(images_of("imagenet_a", 1), scores=scores, scale="probabilities")
    with pytest.raises(UserError, match=r"classes in image n\d+/0.jpg are all 0"):
        score(shown, SPACES["imagenet_a"])


def undeclared(names, **given) -> str:
    scores = np.zeros((len(names), 1000), np.float32)
    return "\n".join(remarks_on_undeclared(predictions(names, scores=scores, **given)))


def test_figures_of_some_of_imagenets_classes_say_that_all_compete():
    rendered = [f"{wnid}/1.jpg" for wnid in SPACES["imagenet_r"].class_names]
    assert undeclared(rendered).startswith("warning: the images are of 200 of ImageNet's 1,000")
    assert undeclared(rendered).endswith("label_space=imagenet_r (they are its 200 classes)")
    assert "imagenet_r (they are among its 200 classes)" in undeclared(rendered[:150])
    half = [f"{wnid}/1.jpg" for wnid in WNIDS[:500]]
    assert "label_space=imagenet (they are among its 1,000 classes)" in undeclared(half)


def test_labels_that_do_not_follow_numbered_folders_are_said():
    numbered, ranks = [f"{n}/1.jpeg" for n in range(1000)], sorted(range(1000), key=str)
    names = tuple(map(str, range(1000)))
    assert undeclared(numbered, class_names=names, labels=np.arange(1000)) == ""
    found = undeclared(numbered, class_names=names, labels=np.argsort(ranks))
    assert "folders are numbers, such as 0, which labels do not follow" in found


def test_all_of_imagenets_classes_and_other_classes_need_no_declaration():
    assert undeclared([f"train/{wnid}/1.JPEG" for wnid in WNIDS]) == ""
    assert undeclared(["cat/1.jpg", "dog/1.jpg", "1.jpg"]) == undeclared([]) == ""
    few = predictions(images_of("imagenet_a", 3), class_names=SPACES["imagenet_a"].class_names)
    assert remarks_on_undeclared(few) == []


def test_an_unknown_way_to_combine_is_refused():
    with pytest.raises(ValueError, match="combine must be one of 'max', 'logsumexp', not 'mean'"):
        LabelSpaceConfig(label_space="real", combine="mean")


def test_results_are_plain_json():
    found: ScoredSet = score(predictions(images_of("real")), SPACES["real"])
    assert json.loads(json.dumps(found.as_json())) == found.as_json()
