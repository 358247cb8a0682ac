"""Mistakes that users make: one message that says what to type, before anything is compiled."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import run_command

from distill.config import resolve
from distill.evaluate.transfer import TransferConfig
from distill.runs.evaluated import EvaluateConfig
from distill.train import step

PRETRAIN = "pretrain --config=pretrain/digits --workdir=W"
DISTILL = "distill_student --config=distill/digits --workdir=W"
FOLDER = "pretrain --config=pretrain/folder --workdir=W --config.data.source"
AUTO = "auto photos --dry_run"
PLAN = "plan --config=pretrain/digits --topology"
SHOTS = "evaluate --workdir=teacher --config.evals.t.kind=transfer --config.evals.t.shots"
DINO = "hf download facebook/dinov2-base --local-dir=weights/dinov2-base"

# A command line, and what its message has to say.
MISTAKES: dict[str, tuple[str, ...]] = {
    # Repositories and URLs in place of paths.
    f"{DISTILL} --config.teacher.workdir=none --config.teacher.weights.path=facebook/dinov2-base": (
        "config.teacher.weights.path",
        "facebook/dinov2-base do not exist",
        "nothing is downloaded",
        f"{DINO} and give weights/dinov2-base",
    ),
    f"{AUTO} --teacher=facebook/dinov2-base": ("--teacher", "nothing is downloaded", DINO),
    f"{AUTO} --teacher=google/siglip-base-patch16-224": (
        "hf download google/siglip-base-patch16-224 --local-dir=weights/siglip-base-patch16-224",
    ),
    f"{AUTO} --teacher=https://huggingface.co/facebook/dinov2-base": (DINO,),
    "inspect facebook/dinov2-base": ("does not exist", DINO),
    "auto someone/photographs --dry_run": ("--repo-type=dataset --local-dir=data/photographs",),
    f"{FOLDER}=https://example.com/photos.tar": ("is not on this machine", "curl -LO"),
    # What shells would have put in.
    f"{AUTO[:5]}'$NOWHERE/photos' --dry_run": ("variable $NOWHERE", "single quotes"),
    f"{FOLDER}='folder:$NOWHERE/photos'": ("config.data.source", "variable $NOWHERE"),
    "pretrain --config=pretrain/digits --workdir='$NOWHERE/run'": ("--workdir", "$NOWHERE"),
    "auto '~nobody-of-this-name/photos' --dry_run": ("no known home directory",),
    # Machines.
    f"{PLAN}=v5e": ("has no size", "did you mean v5e:4x4?"),
    f"{PLAN}=v5litepod-8": ("8 chips of v5e", "did you mean v5e:2x4?"),
    f"{PLAN}=v5p-128": ("64 chips of v5p", "did you mean v5p:4x4x4?"),
    f"{PLAN}=v4-32": ("16 chips of v4", "did you mean v4:2x2x4?"),
    f"{PLAN}=v6e-12": ("did you mean v6e:2x4 or v6e:4x4?",),
    f"{PLAN}=h100": ("did you mean h100:8?",),
    f"{PLAN}=8xH100": ("did you mean h100:8?",),
    f"{PLAN}=a100": ("known are h100, h200, b200",),
    # Commands, configs and flags.
    "trian --config=pretrain/digits": ("unknown command 'trian'", "did you mean distill pretrain?"),
    "student": ("did you mean distill distill_student?", "distill --help"),
    "pretrain --config=pretrain/digit --workdir=W": ("did you mean --config=pretrain/digits?",),
    "pretrain --config=digits --workdir=W": ("did you mean --config=pretrain/digits?",),
    "distill_student --config=digits --workdir=W": ("did you mean --config=distill/digits?",),
    "evaluate --config=digits --workdir=W": ("did you mean --config=evaluate/digits?",),
    "evaluate .": ("unexpected argument '.'; a workdir is given as --workdir=.",),
    "export . --format=onnx": ("unexpected argument '.'; a workdir is given as --workdir=.",),
    f"{AUTO} --epochs=10": ("type --budget=10epochs",),
    f"{AUTO} --total_steps 500": ("type --budget=500steps",),
    "compare a=teacher b=teacher": ("nothing is asked for", "--config.evals.test.kind=split"),
    f"{PRETRAIN} -config.train.batch_size=8": ("one dash", "--config.train.batch_size=8"),
    f"{PRETRAIN} --train.batch_size=8": ("--config.train.batch_size=VALUE",),
    f"{PRETRAIN} --batch_size=8": ("unknown flag --batch_size", "--config.SECTION.batch_size="),
    "pretrain --config=pretrain/digits --workdr=W": ("Did you mean: workdir",),
    "pretrain --config=distill/digits --workdir=W": (
        "this is a config for distill distill_student",
    ),
    "distill_student --config=pretrain/digits --workdir=W": (
        "this is a config for distill pretrain",
    ),
    "plan --config=evaluate/digits --topology=v4:2x2x1": ("a config for distill evaluate",),
    f"{AUTO} --student=vit_small_patch16_224": ("did you mean --student=S/16?",),
    f"{AUTO} --student=vits16": ("did you mean --student=S/16?",),
    f"{AUTO} --student=ViT-S/16": ("did you mean --student=S/16?",),
    f"{AUTO} --budget=30": ("did you mean --budget=30m",),
    "auto photos train": ("expected one DATA, and there are 2",),
    "compare --config=evaluate/digits": ("give models: distill compare TEACHER STUDENT",),
    # Keys and values of configs.
    f"{PRETRAIN} --config.optimizer.learnin_rate=1": (
        "did you mean config.optimizer.learning_rate",
    ),
    f"{PRETRAIN} --config.lr=1e-3": ("did you mean config.optimizer.learning_rate?",),
    f"{PRETRAIN} --config.weight_decay=0.1": ("did you mean config.optimizer.weight_decay?",),
    f"{PRETRAIN} --config.optimizer.weight_decay=0.1": ("(('kernel$', 0.1),)",),
    f"{PRETRAIN} --config.epochs=3": ("did you mean config.train.total_epochs?",),
    f"{PRETRAIN} --config.batch_size=8": ("did you mean config.train.batch_size?",),
    f"{PRETRAIN} --config.optimizer=adamw": ("such as --config.optimizer.name=adam",),
    f"{PRETRAIN} --config.optimizer.name=adamw": ("one of adafactor, adam, sgd", "mean 'adam'?"),
    f"{PRETRAIN} --config.optimizer.kind=sgd": ("did you mean config.optimizer.name?",),
    f"{PRETRAIN} --config.schedule=cosine": ("such as --config.schedule.kind=cosine",),
    f"{PRETRAIN} --config.model.dtype=bf16": ("did you mean 'bfloat16'?",),
    f"{PRETRAIN} --config.model.dtype=fp16": ("one of float32, bfloat16",),
    f"{PRETRAIN} --config.train.total_epochs=3": (
        "total_steps is from the config file, total_epochs from the command line",
        "add --config.train.total_steps=none",
    ),
    f"{SHOTS}='5 10'": ("type --config.evals.t.shots=5,10",),
    f"{SHOTS}='(five)'": ("config.evals.t.shots is '(five)'; expected list of whole number",),
    f"{PRETRAIN} --config.data.classes=1,x": ("""type --config.data.classes="('1', 'x')\"""",),
    f"{PRETRAIN} --config.model.image_size=9": ("not divisible by patch size 2", "8×8 or 10×10"),
    f"{PRETRAIN} --config.mesh.data=3": ("mesh data=3", "must multiply to 1"),
    f"{PRETRAIN} --config.train.batch_size=9999": ("larger than the data", "batch_size=1024"),
    # Teachers.
    f"{DISTILL} --config.teacher.workdir=nowhere --config.data.test_split=nosuch": (
        "config.teacher.workdir is",
        "nowhere, where nothing is",
        "digits has no split 'nosuch'",
    ),
    f"{DISTILL}": ("config.teacher.workdir is", "or type --config.teacher.workdir=DIR"),
    f"{DISTILL} --config.teacher.workdir=teacher/export/onnx/1": (
        "is not the workdir of a run",
        "part of the run in",
    ),
    f"{AUTO} --teacher=teacher/export/onnx/1": ("is an export", "--format=hf"),
    f"{DISTILL} --config.teacher.weights.path=other.npz": ("--config.teacher.workdir=none",),
    f"{AUTO} --teacher=other.npz": ("holds neither big_vision's nor timm's names",),
    f"{AUTO} --teacher=model.pth": ("is a pickle", "safetensors.torch.save_file"),
    f"{AUTO} --teacher=model.ckpt": ("is a pickle", "safetensors.torch.save_file"),
    f"{DISTILL} --config.teacher.workdir=teacher --config.data.source=folder:photos "
    "--config.train.batch_size=8": ("3 classes that the student does not have", "class_map"),
    # Images.
    f"{FOLDER}=photos": ("unknown data source 'photos'", "did you mean folder:photos"),
    f"{FOLDER}=folder:photos/train/dark/0.jpg": ("is not a folder",),
    f"{FOLDER}=folder:empty": ("no images under", "Expected class/image.jpg"),
    f"{FOLDER}=folder:photos/train/dark": ("Expected images in folders", "images:"),
    f"{FOLDER}=folder:more --config.train.batch_size=8": ("'extra'",),
    "auto empty --dry_run": ("no images under",),
    "auto photos/train/dark/0.jpg --dry_run": ("is one image; give the folder of many",),
    "predict --workdir=teacher --source=images:empty --output=p.npz": ("no images under",),
    # Workdirs and what is made of them.
    "pretrain --config=pretrain/digits --workdir=other.npz": ("cannot write to workdir",),
    "pretrain --config=pretrain/digits --workdir=teacher": (
        "belongs to a run with another config",
        "Use a new --workdir",
    ),
    "export --workdir=unfinished": ("is not complete", "step 10"),
    "export --workdir=nowhere": ("does not exist; give the directory that a run wrote",),
    "export --workdir=teacher --format=savedmodel": ("did you mean 'saved_model'?",),
    "export --workdir=teacher --format=tf": ("did you mean 'saved_model'?",),
    "export --workdir=teacher --format=pytorch": ("did you mean 'timm'?",),
}
MOST_LINES = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory, teacher_workdir, image_folder) -> Path:
    """A directory in which users mistake things."""
    place = tmp_path_factory.mktemp("mistakes")
    (place / "photos").symlink_to(image_folder)
    (place / "empty").mkdir()
    shutil.copytree(image_folder, place / "more")
    shutil.copytree(image_folder / "test" / "dark", place / "more" / "test" / "extra")
    shutil.copytree(teacher_workdir, place / "teacher")
    export = place / "teacher" / "export" / "onnx" / "1"
    export.mkdir(parents=True)
    (export / "export.json").write_text("{}")
    shutil.copytree(teacher_workdir, place / "unfinished")
    (place / "unfinished" / "summary.json").unlink()
    np.savez(place / "other.npz", a=np.ones(3))
    for name in ("model.pth", "model.ckpt"):
        (place / name).write_bytes(b"PK")
    return place


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    """What is trained here is a mistake of this test."""

    def compile_nothing(*lowered):
        pytest.fail("a step is compiled")

    monkeypatch.chdir(place)
    monkeypatch.setattr(step, "compiled", compile_nothing)


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_by_what_to_type(line):
    done = run_command(*shlex.split(line))
    said = done.stderr[done.stderr.find("error: ") :]
    assert done.returncode == 2, done.stderr
    for words in MISTAKES[line]:
        assert words in said, said
    assert "Traceback" not in said
    assert said.count("\n") <= MOST_LINES, said


@pytest.mark.parametrize("text", ["5", "(5)", "5,", "5,10", "[5,10]", "(5, 10)"])
def test_lists_of_numbers_are_read_however_they_are_written(text):
    asked = {"evals.t.kind": "transfer", "evals.t.shots": text}
    (found,) = resolve(EvaluateConfig, {}, asked).evals.values()
    assert isinstance(found, TransferConfig)
    assert found.shots == ((5, 10) if "10" in text else (5,))
