"""The student that is trained where none is asked for, and what may be asked for."""

import numpy as np
import pytest
from published import big_vision_arrays

from distill.auto.images import Images
from distill.auto.recipe import choose_recipe
from distill.auto.student import checked_variant, choose_student
from distill.auto.teacher import find_teacher
from distill.errors import UserError


def images_of(count=60, side=180, names=("a", "b", "c")):
    return Images({"source": "folder:x"}, count, 10, names, side, ())


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Makes published weights of 32 pixels, with so many classes."""

    def make(classes):
        path = tmp_path_factory.mktemp("npz") / "vit.npz"
        np.savez(path, **big_vision_arrays("original", "cls", classes=classes))
        return find_teacher(str(path))

    return make


@pytest.mark.parametrize("text", ["S/16", "B/32", "mu/4", "So400m/14", " Ti/8"])
def test_variants_are_taken(text):
    assert checked_variant(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("S16", "--student=S/16"),
        ("s-16", "--student=s/16"),
        ("ViT-B/16", "--student=B/16"),
        ("small/16", "--student=S/16"),
        ("vit_base_patch32", "--student=B/32"),
        ("tiny", "--student=Ti/16"),
        ("S", "--student=S/16"),
        ("S/0", "--student=S/16"),
        ("basee/16", "--student=B/16"),
    ],
)
def test_unknown_variants_name_the_nearest(text, guess):
    with pytest.raises(UserError, match="expected a shape and the side of its patches") as error:
        checked_variant(text)
    assert guess in str(error.value)


def test_a_small_teacher_has_a_student_of_half_its_width(teacher):
    taught = teacher(5)
    student = choose_student(None, taught, images_of())
    assert student.section["width"] == 12 and student.section["depth"] == 2
    assert student.section["variant"] == "mu/8" and student.section["image_size"] == 32
    assert student.parameters < taught.network.parameter_count() / 2


def test_what_is_asked_for_is_taken(teacher):
    student = choose_student("Ti/16", teacher(5), images_of())
    assert student.section == dict(family="vit", variant="Ti/16", image_size=32, head="cls")


def test_patches_larger_than_images_are_refused(teacher):
    with pytest.raises(UserError, match="patches of 64 pixels, and images are shown at 32×32"):
        choose_student("S/64", teacher(5), images_of())


@pytest.mark.parametrize(
    ("count", "side", "variant", "size"),
    [(60, 180, "Ti/16", 128), (5000, 300, "S/16", 224), (5000, 8, "mu/2", 8)],
)
def test_without_a_teacher_the_images_decide(count, side, variant, size):
    section = choose_student(None, None, images_of(count, side)).section
    assert section["variant"] == variant and section["image_size"] == size


@pytest.mark.parametrize(
    ("names", "classes", "match"),
    [
        (("a", "b", "c"), 3, "logits"),
        (("a", "b", "c"), 5, "embedding"),
        (("a", "b", "c"), 0, "embedding"),
        ((), 5, "logits"),
        ((), 0, "tokens"),
    ],
)
def test_what_is_matched_follows_from_the_classes(teacher, names, classes, match):
    taught, images = teacher(classes), images_of(names=names)
    recipe = choose_recipe(images, taught, choose_student(None, taught, images))
    losses = {
        key: weight for key, weight in recipe.sections["matching"]["losses"].items() if weight
    }
    assert recipe.match == match and losses["embedding_cosine"] == 1.0
    assert ("kl" in losses) == (match == "logits") and ("labels" in losses) == (
        match == "embedding"
    )
    assert ("tokens_cosine" in losses) == (match == "tokens")
    assert recipe.sections["model"].get("num_classes") == (0 if match == "tokens" else None)


def test_without_teacher_and_labels_there_is_nothing_to_learn():
    images = images_of(names=())
    with pytest.raises(UserError, match="give --teacher=PATH"):
        choose_recipe(images, None, choose_student(None, None, images))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "facebook/dinov2-base",
            "hf download facebook/dinov2-base --local-dir=weights/dinov2-base",
        ),
        ("weights", "give the workdir of a run, or published weights"),
    ],
)
def test_a_teacher_that_is_not_there_says_what_to_type(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find_teacher(text)


def test_a_teacher_of_which_nothing_is_known_says_what_is(tmp_path):
    np.savez(tmp_path / "model.npz", something=np.zeros((3, 4), np.float32))
    with pytest.raises(UserError, match="Known are runs of this project and ViT"):
        find_teacher(str(tmp_path / "model.npz"))
