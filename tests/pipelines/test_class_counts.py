"""A model whose config does not say how many classes it has gets as many as the data has."""

from types import SimpleNamespace

import pytest
from support import arguments, distill_config, run_command

from distill.config import ConfigError, load_file, resolve
from distill.errors import UserError
from distill.json_files import read_json
from distill.nn.family import ModelConfig
from distill.runs.distillation import DistillConfig
from distill.runs.start import StartConfig
from distill.runs.student_classes import count_classes
from pipelines import finetune


def splits(train=(), held_out=()):
    """Images with these classes, as far as counting them goes."""
    return SimpleNamespace(train=SimpleNamespace(class_names=train), class_names=train or held_out)


def test_pretraining_counts_and_records_the_classes_of_the_data(tmp_path):
    order = tuple("9876543210")
    counted = dict(model__num_classes="none", data__classes=order)
    command = ("pretrain", *arguments("pretrain/digits.py", tmp_path, **counted))
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "config.json")["model"]["num_classes"] == 10
    assert tuple(read_json(tmp_path / "classes.json")["classes"]) == order
    again = run_command(*command)
    assert again.returncode == 0 and "is complete already" in again.stderr


@pytest.mark.parametrize(("classifier", "count"), [("new", None), ("keep", 10)])
def test_fine_tuning_keeps_the_number_of_a_classifier_it_keeps(teacher_workdir, classifier, count):
    tree = load_file("finetune/imagenet")
    overrides = {"start.workdir": str(teacher_workdir), "start.classifier": classifier}
    assert finetune.complete(tree, overrides)["model"]["num_classes"] == count


def test_a_student_has_the_classes_of_its_data(teacher_workdir):
    config = distill_config(teacher_workdir, model__num_classes="none")
    assert config.with_classes(splits(("a", "b", "c"))).model.num_classes == 3
    # What a config says stays.
    assert distill_config(teacher_workdir).with_classes(splits(("a",))).model.num_classes == 10


def test_several_students_have_one_number_of_classes(teacher_workdir):
    model = {"family": "vit", "variant": "mu/2", "image_size": 8, "channels": 1}
    config = distill_config(
        teacher_workdir,
        model="none",
        **{
            f"students__{name}__model__{key}": value
            for name in "ab"
            for key, value in model.items()
        },
    )
    found = config.with_classes(splits(("x", "y")))
    assert [student.model.num_classes for student in found.students.values()] == [2, 2]


def test_where_the_images_have_no_labels_teachers_count(teacher_workdir):
    teachers = distill_config(teacher_workdir).every_teacher
    assert count_classes(splits(), teachers) == 10
    assert count_classes(splits(held_out=("a", "b")), teachers) == 10
    assert count_classes(splits(held_out=("a", "b")), {}) == 2
    store = SimpleNamespace(contents=SimpleNamespace(about={"classes": ["a", "b", "c"]}))
    assert count_classes(splits(("a", "b")), {}, store=store) == 3


def test_a_classifier_that_is_kept_has_its_own_number(teacher_workdir):
    kept = StartConfig(classifier="keep", workdir=str(teacher_workdir))
    assert count_classes(splits(("a",)), {}, kept) == 10


def test_a_number_that_nobody_knows_is_asked_for():
    with pytest.raises(UserError, match=r"give it --config\.model\.num_classes=N, or 0"):
        count_classes(splits(), {})


def test_a_classifier_that_nothing_teaches_is_refused_once_it_is_counted(teacher_workdir):
    config: DistillConfig = distill_config(
        teacher_workdir,
        model__num_classes="none",
        matching__losses__kl=0,
        matching__losses__embedding_cosine=1,
    )
    with pytest.raises(ConfigError, match=r"classifier of 2 classes; set model\.num_classes=0"):
        config.with_classes(splits(("a", "b")))


def test_a_network_needs_a_number():
    model = resolve(ModelConfig, {"family": "vit", "variant": "mu/16"})
    with pytest.raises(UserError, match=r"say how many: --config\.model\.num_classes=N"):
        model.network()
    assert model.with_classes(7).network().config.num_classes == 7
    with pytest.raises(ConfigError, match="unknown variant"):
        resolve(ModelConfig, {"family": "vit", "variant": "nope/16"})
