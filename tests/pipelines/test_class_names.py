"""A model and the names of its classes travel together, whatever the data is called later."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import arguments, distill_config, final_params, run_command

from distill.config import ConfigError
from distill.data import open_source
from distill.data.classes import among
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.json_files import read_json
from distill.runs.students import agree_on_classes
from distill.subject import Teacher
from distill.train.metrics import read as read_metrics
from distill.train.workdir import read_classes
from pipelines import evaluate
from students import vit

COLOURS = ("red", "green", "blue")
# As the folders are sorted.
CLASSES = ("blue", "green", "red")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def make_folder(root: Path, images: int = 8) -> Path:
    """Images of one colour a class in root/split/class/N.png."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for channel, name in enumerate(COLOURS):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(0, 60, (10, 12, 3)).astype(np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def rename(root: Path, old: str, new: str) -> None:
    for split in ("train", "validation", "test"):
        (root / split / old).rename(root / split / new)


def flags(config: str, workdir: Path, data: Path, **overrides: object) -> list[str]:
    """Of a run on a folder that tells its colours apart in seconds."""
    common = dict(
        data__source=f"folder:{data}",
        model__channels=3,
        model__num_classes=3,
        train__batch_size=8,
        train__total_steps=30,
        train__eval_every=15,
        optimizer__learning_rate=0.01,
    )
    return arguments(config, workdir, **common | overrides)


def command(*arguments: object, code: int = 0) -> str:
    """What a command printed; it must have ended with this code."""
    done = run_command(*arguments)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def figure(printed: str, name: str) -> float:
    return float(re.search(rf"test/{name} +([\d.]+)", printed)[1])


def accuracy(printed: str) -> float:
    return figure(printed, "accuracy")


def exported_classes(workdir: Path) -> tuple[str, ...]:
    file = workdir / "export" / "stablehlo" / "1" / "class_names.json"
    return tuple(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A folder and a run on it that knows its colours."""
    root = tmp_path_factory.mktemp("colours")
    data, workdir = make_folder(root / "data"), root / "run"
    command("pretrain", *flags("pretrain/digits.py", workdir, data))
    return data, workdir


@pytest.fixture
def run(made, tmp_path) -> tuple[Path, Path]:
    """Copies, to be changed; the folder is where the run was trained on it."""
    data, workdir = made
    kept = tmp_path / "kept"
    shutil.copytree(data, kept)
    shutil.copytree(workdir, tmp_path / "run")
    yield data, tmp_path / "run"
    shutil.rmtree(data)
    shutil.copytree(kept, data)


def test_a_run_records_its_classes(made):
    _, workdir = made
    assert read_json(workdir / "classes.json") == {"classes": list(CLASSES)}
    assert read_classes(workdir) == CLASSES
    assert accuracy(command("evaluate", f"--workdir={workdir}")) == 1
    assert re.search(r"classes +blue, green, red", command("inspect", workdir))


@pytest.mark.usefixtures("runtimes_in_this_process")
def test_a_class_that_is_called_otherwise_now_is_said_by_every_command(run, tmp_path):
    data, workdir = run
    rename(data, "red", "a_red")
    printed = command("evaluate", f"--workdir={workdir}", code=2)
    assert f"has 1 class that the model in {workdir} does not have: 'a_red'" in printed
    assert "test/accuracy" not in printed

    printed = command("pretrain", *flags("pretrain/digits.py", workdir, data), code=2)
    assert "class 0 was 'blue' and is 'a_red'" in printed

    start = {"start__workdir": workdir, "start__classifier": "keep"}
    finetune = flags("finetune/digits.py", tmp_path / "finetuned", data, **start)
    printed = command("finetune", *finetune, code=2)
    assert "the model to start from does not have: 'a_red'" in printed
    assert not (tmp_path / "finetuned" / "config.json").exists()

    student = flags("distill/digits.py", tmp_path / "student", data, teacher__workdir=workdir)
    assert "that the teacher does not have: 'a_red'" in command("distill_student", *student, code=2)
    targets = flags("distill/digits.py", tmp_path / "targets", data, teacher__workdir=workdir)
    assert "that the teacher does not have: 'a_red'" in command("store_targets", *targets, code=2)

    printed = command("export", f"--workdir={workdir}", "--images=6", "--format=stablehlo")
    assert "no accuracy is given" in printed and "'a_red'" in printed
    assert exported_classes(workdir) == CLASSES


def test_who_says_which_class_is_which_gets_the_same_figures(run, tmp_path):
    data, workdir = run
    rename(data, "red", "a_red")
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"a_red": "red"}))
    evaluate = ("evaluate", f"--workdir={workdir}")
    assert accuracy(command(*evaluate, f"--class_map={file}")) == 1
    # In the model's order; as they are sorted, a_red comes first.
    assert accuracy(command(*evaluate, "--classes=blue,green,a_red")) == 1
    assert "not in one order: 'blue' is number 1 of the one and 0 of the other" in command(
        *evaluate, "--class_map=in_order", code=2
    )
    assert "name each once, not 'green' twice" in command(
        *evaluate, "--classes=blue,green,green", code=2
    )
    for old, new in (("blue", "1"), ("green", "2"), ("a_red", "3")):
        rename(data, old, new)
    printed = command(*evaluate, "--class_map=in_order")
    assert accuracy(printed) == 1 and "'1' → 'blue', '2' → 'green', '3' → 'red'" in printed
    assert accuracy(command(*evaluate, "--classes=1,2,3")) == 1

    start = {"start__workdir": workdir, "start__classifier": "keep", "data__class_map": "in_order"}
    begun = {"train__evaluate_first": True, "train__total_steps": 4, "data__view__flip": False}
    finetuned = tmp_path / "finetuned"
    command("finetune", *flags("finetune/digits.py", finetuned, data, **start, **begun))
    assert read_classes(finetuned) == CLASSES
    assert read_metrics(finetuned)[0]["val/accuracy"] == 1
    # What the run was told of its own data still holds.
    assert accuracy(command("evaluate", f"--workdir={finetuned}")) == 1


def test_a_map_that_says_otherwise_is_other_data(made, tmp_path):
    data, _ = made
    file = tmp_path / "map.json"
    keys = dict(data__class_map=file, train__total_steps=2, model__num_classes=2)
    pretrain = ("pretrain", *flags("pretrain/digits.py", tmp_path / "new", data, **keys))
    # Both make the classes blue and red.
    file.write_text(json.dumps({"green": "blue"}))
    command(*pretrain)
    assert read_classes(tmp_path / "new") == ("blue", "red")
    file.write_text(json.dumps({"green": "red"}))
    assert "24 images as then, but of other names, sizes or classes" in command(*pretrain, code=2)


def test_a_class_alone_and_some_of_other_data_are_remarked_or_refused(made, tmp_path):
    data, workdir = made
    more = shutil.copytree(data, tmp_path / "more")
    for old, new in (("blue", "cyan"), ("green", "yellow")):
        shutil.copytree(more / "test" / old, more / "test" / new)
    evaluate = ("evaluate", f"--workdir={workdir}", f"--source=folder:{more}")
    printed = command(*evaluate, "--classes=cyan,yellow,red", code=2)
    assert "2 classes that the model" in printed and "'cyan', 'yellow'" in printed
    assert "has one class only, 'red'" in command(*evaluate, "--classes=red")
    start = {"start__workdir": workdir, "start__classifier": "keep", "model__num_classes": 4}
    finetune = flags("finetune/digits.py", tmp_path / "finetuned", data, **start)
    assert "set config.model.num_classes=3" in command("finetune", *finetune, code=2)


def test_a_part_of_the_models_classes_is_evaluated_among_those(run):
    _, workdir = run
    printed = command("evaluate", f"--workdir={workdir}", "--classes=red,blue")
    assert "has 2 of the model's 3 classes: evaluated among those alone" in printed
    assert accuracy(printed) == 1


def test_a_teacher_is_put_in_the_order_of_the_data(made, tmp_path):
    data, workdir = made
    classes, student = ("red", "blue", "green"), tmp_path / "student"
    keys = dict(teacher__workdir=workdir, data__classes=classes, train__total_steps=20)
    keys |= dict(matching__mixup=0, train__eval_every=20, optimizer__learning_rate=0.03)
    printed = command("distill_student", *flags("distill/digits.py", student, data, **keys))
    assert "teacher accuracy 100.00% on validation" in printed
    assert read_classes(student) == classes
    # It agrees with its teacher, and both with the labels, in an order that is not the teacher's.
    assert read_metrics(student)[-1]["val/agreement"] == 1
    assert read_metrics(student)[-1]["val/accuracy"] == 1


@pytest.mark.slow
def test_stored_targets_are_of_the_classes_of_the_run(made, tmp_path):
    data, workdir = made
    keys = dict(teacher__workdir=workdir, data__classes=("red", "blue", "green"))
    keys |= dict(matching__mixup=0, train__total_steps=4)
    stored, live, replay = (tmp_path / name for name in ("targets", "live", "replay"))
    store = ["--config.store.dtype=float32", *flags("distill/digits.py", stored, data, **keys)]
    command("store_targets", *store)
    about = read_json(stored / "store.json")["about"]
    assert about["classes"] == ["red", "blue", "green"]
    assert about["teachers"]["teacher"]["classes"] == list(CLASSES)
    command("distill_student", *flags("distill/digits.py", live, data, **keys))
    keys |= dict(teacher="none", targets=stored)
    command("distill_student", *flags("distill/digits.py", replay, data, **keys))
    kernels = [final_params(path)["classifier"]["kernel"] for path in (live, replay)]
    assert np.array_equal(*kernels)
    assert read_classes(replay) == ("red", "blue", "green")


@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.slow
def test_a_student_of_images_without_labels_has_its_teachers_classes(made, tmp_path):
    data, workdir = made
    keys = dict(teacher__workdir=workdir, data__source=f"images:{data / 'train'}")
    keys |= dict(data__validation_split="none", data__test_split="none", train__total_steps=4)
    command("distill_student", *flags("distill/digits.py", tmp_path / "alone", data, **keys))
    assert read_classes(tmp_path / "alone") == CLASSES
    command("export", f"--workdir={tmp_path / 'alone'}", "--images=4", "--format=stablehlo")
    assert exported_classes(tmp_path / "alone") == CLASSES


def agreed(teachers, classes, student=3, **keys):
    """What students, digits (or images without labels) and teachers of these names agree on."""
    config = distill_config(Path("teacher"), data__classes=classes, **keys)
    network = vit.build(vit.configure("mu/2", num_classes=student, image_size=8, channels=1))
    asked = {
        name: Teacher(
            vit.build(vit.configure("mu/2", num_classes=len(names), image_size=8, channels=1)),
            class_names=tuple(names),
        )
        for name, names in teachers.items()
    }
    splits = config.data.open_splits(channels=1)
    names, splits, found = agree_on_classes(config, {"student": network}, splits, asked)
    return names, splits, {name: teacher.order for name, teacher in found.items()}


def test_teachers_of_several_orders_are_all_put_in_order():
    names, _, orders = agreed({"one": "357", "two": "735"}, ("5", "3", "7"))
    assert names == ("5", "3", "7")
    assert orders == {"one": (1, 0, 2), "two": (2, 1, 0)}


def test_a_teacher_of_more_classes_teaches_those_of_the_data():
    _, _, orders = agreed({"teacher": "0123456789"}, ("5", "3", "7"))
    assert orders == {"teacher": (5, 3, 7)}


def test_a_student_of_its_teachers_classes_may_see_some_of_them():
    names, splits, orders = agreed({"teacher": "56789"}, ("9", "5"), student=5)
    assert names == tuple("56789") and orders == {"teacher": None}
    assert {*splits.train.labels.tolist()} == {0, 4} == {*among(splits.validation)}


def test_images_without_labels_have_the_classes_of_the_teacher(made):
    data, _ = made
    source = dict(data__source=f"images:{data}", data__eval_source="digits")
    names, splits, orders = agreed({"teacher": "9876543210"}, (), student=10, **source)
    assert names == splits.validation.class_names == tuple("9876543210")
    assert orders == {"teacher": None}
    digits = open_source("digits", "validation", channels=1).labels
    assert np.array_equal(splits.validation.labels, 9 - digits)


def test_other_teachers_are_refused_where_logits_are_compared_and_only_there(capsys):
    with pytest.raises(UserError, match="that the teacher does not have: '5'"):
        agreed({"teacher": "3x7"}, ("3", "5"), student=2)
    # As many, but chosen among others: that says nothing of an order.
    with pytest.raises(UserError, match="that the teacher does not have: '5'"):
        agreed({"teacher": "3x7"}, ("3", "5", "7"))
    in_order = dict(data__class_map="in_order")
    assert agreed({"teacher": "3x7"}, ("3", "5", "7"), **in_order)[2] == {"teacher": None}
    with pytest.raises(UserError, match="not in one order: '7' is number 2 of the one and 1 of"):
        agreed({"teacher": "37x"}, ("3", "5", "7"), **in_order)
    labels = dict(matching__losses__kl=0, matching__losses__labels=1)
    assert agreed({"teacher": "xyz"}, ("3", "5"), student=2, **labels)[2] == {"teacher": ()}
    assert "has other classes than the student: they are not compared" in capsys.readouterr().err


def test_digits_in_folders_of_other_names_score_what_digits_score(teacher_workdir, tmp_path):
    digits = open_source("digits", "test", channels=1)
    for number in range(len(digits)):
        pixels, label = digits.read(number).values()
        folder = tmp_path / "test" / WORDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    source = f"folder:{tmp_path}"
    right = evaluate.run(teacher_workdir)["test/cross_entropy"]

    def measured(**flags):
        return evaluate.run(teacher_workdir, {"": SplitConfig(source=source, **flags)})[
            "test/cross_entropy"
        ]

    with pytest.raises(UserError, match="10 classes that the model"):
        measured()
    assert measured(classes=WORDS) == pytest.approx(right, abs=1e-7)
    # Sorted, the words are in no order of numbers.
    assert measured(class_map="in_order") != pytest.approx(right, abs=1e-6)
    file = tmp_path / "map.json"
    file.write_text(json.dumps(dict(zip(WORDS, map(str, range(10)), strict=True))))
    assert measured(class_map=str(file)) == pytest.approx(right, abs=1e-7)


def test_a_run_that_did_not_record_its_classes_is_told_of(run):
    data, workdir = run
    (workdir / "classes.json").unlink()
    printed = command("evaluate", f"--workdir={workdir}")
    assert "nothing says what the model" in printed and accuracy(printed) == 1
    command("pretrain", *flags("pretrain/digits.py", workdir, data))
    assert read_classes(workdir) == CLASSES


@pytest.mark.parametrize("losses", ["embedding_cosine", "tokens_mse"])
def test_a_classifier_that_nothing_teaches_is_refused(losses):
    keys = {"matching__losses__kl": 0, f"matching__losses__{losses}": 1}
    with pytest.raises(ConfigError, match=r"classifier of 10 classes; set model\.num_classes=0"):
        distill_config(Path("teacher"), **keys)
    distill_config(Path("teacher"), **keys, model__num_classes=0)
    distill_config(Path("teacher"), **keys, matching__losses__labels=1)
    kept = dict(start__workdir="start", start__classifier="keep")
    distill_config(Path("teacher"), **keys, **kept)


CHANGES = {
    "grown": (lambda data: Image.new("RGB", (9, 9)).save(data / "train/red/new.png"), "25 now"),
    "cut": (lambda data: (data / "train/red/0.png").unlink(), "24 images then, 23 now"),
    "renamed": (
        lambda data: (data / "train/red/0.png").rename(data / "train/red/9.png"),
        "24 images as then, but of other names, sizes or classes",
    ),
    "another image": (
        lambda data: Image.new("RGB", (90, 90)).save(data / "train/red/0.png"),
        "24 images as then, but of other names, sizes or classes",
    ),
    "another test image": (
        lambda data: Image.new("RGB", (90, 90)).save(data / "test/red/0.png"),
        "test: 24 images as then",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(change, run):
    data, workdir = run
    make, message = CHANGES[change]
    make(data)
    (workdir / "summary.json").unlink()
    before = (workdir / "metrics.jsonl").read_bytes()
    printed = command("pretrain", *flags("pretrain/digits.py", workdir, data), code=2)
    assert message in printed and f"{workdir / 'data.json'}" in printed
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_data_that_lies_elsewhere_is_the_same_data(run, tmp_path):
    data, workdir = run
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    config = read_json(workdir / "config.json")
    config["data"]["source"] = f"folder:{moved}"
    (workdir / "config.json").write_text(json.dumps(config))
    printed = command("pretrain", *flags("pretrain/digits.py", workdir, moved))
    assert "complete already" in printed
