"""Exports uploaded to a stand-in for Hugging Face's hub."""

import importlib.util
import json
import re

import pytest
from hub import TOKEN, hub
from support import run_command

from distill.errors import RunFailed, UserError
from distill.export.hub import Push, contents
from distill.export.hub_card import repository_card
from distill.export.versions import Version
from distill.json_files import write_json

CARD = """---
license: "apache-2.0"
pipeline_tag: image-classification
tags: [vision, knowledge-distillation]
---

# student

Use: README.md beside this file has the lines.

## Data

- trained on: tfds:cifar10, split train

## Licence

apache-2.0.
"""
ABOUT = {
    "data": {
        "trained on": "tfds:cifar10:3.0.2, split train[:90%], 500 of its images",
        "evaluated on": "tfds:cifar10:3.0.2, split train[90%:] (val/), split test (test/)",
    },
    "metrics": {"val/accuracy": "0.9000", "test/accuracy": "0.8750", "test/agreement": "0.9"},
}


@pytest.fixture
def server(monkeypatch):
    from huggingface_hub import constants

    # Large files go by the older protocol, whose requests can be answered here.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # Where the script that checks exports ran in this process, it says that there is no network.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        yield found


@pytest.fixture
def exported(tmp_path):
    """Makes versions of formats, with files of a kind each."""

    def make(*formats, **about):
        found = {}
        for form in formats:
            path = tmp_path / form / "1"
            (path / "assets").mkdir(parents=True)
            (path / "MODEL_CARD.md").write_text(CARD.replace("student", f"student of {form}"))
            (path / "model.safetensors").write_bytes(form.encode() * 1000)
            (path / "assets" / "names.txt").write_text("cat\ndog\n")
            if form == "stablehlo":
                (path / "README.md").write_text("the lines")
            write_json(path / "export.json", {"format": form, "about": ABOUT | about})
            found[form] = Version(path, [])
        return found

    return make


def front_matter(card: str) -> dict:
    """What its lines say; each is YAML that is JSON, or a bare word."""
    _, front, _ = card.split("---\n", 2)
    found = {}
    for line in front.splitlines():
        key, _, value = line.partition(": ")
        found[key] = json.loads(value) if value[0] in '"[{' and "[vision" not in value else value
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("student", "a/b/c", "/b", "a/", "a/-b", "a/b--c", "a/b..c", "a/b.git", "a b/c", "a/b\n"),
        *(f"a/{'b' * 97}", "a/ü", "https://huggingface.co/a/b"),
    ],
)
def test_names_that_the_hub_does_not_have_are_refused(name):
    with pytest.raises(UserError, match="expected USER/REPO"):
        Push(name)


def test_all_of_it_goes_into_one_commit_with_the_card(server, exported, capsys):
    push = Push("jane/vit-tiny")
    push.check()
    versions = exported("stablehlo", "hf")
    push.send(versions)
    ((commit,),) = server.repositories.values()
    assert sorted(commit) == [
        *("README.md", "assets/names.txt", "export.json", "model.safetensors"),
        *("stablehlo/MODEL_CARD.md", "stablehlo/README.md", "stablehlo/assets/names.txt"),
        *("stablehlo/export.json", "stablehlo/model.safetensors"),
    ]
    for form, folder in (("hf", ""), ("stablehlo", "stablehlo/")):
        for name in ("export.json", "model.safetensors", "assets/names.txt"):
            assert commit[folder + name] == (versions[form].path / name).read_bytes()
    assert commit["README.md"].decode() == repository_card("jane/vit-tiny", versions)
    # Weights go as large files, and before the commit.
    assert set(server.large.values()) == {b"hf" * 1000, b"stablehlo" * 1000}
    assert server.asked[-1].endswith("/commit/main") and not server.private["jane/vit-tiny"]
    assert f"uploaded: {server.address}/jane/vit-tiny" in capsys.readouterr().out
    # Once more into the same repository, of an organisation, and a private one.
    push.send(versions)
    assert len(server.repositories["jane/vit-tiny"]) == 2
    for name in ("lab/vit", "jane/own"):
        again = Push(name, private=name == "jane/own")
        again.check()
        again.send(versions)
        assert server.private[name] == (name == "jane/own")


def test_the_card_says_what_the_hub_reads(exported):
    card = repository_card("jane/vit-tiny", exported("timm", "stablehlo"))
    said = front_matter(card)
    assert said["license"] == "apache-2.0" and said["datasets"] == ["uoft-cs/cifar10"]
    (model,) = said["model-index"]
    assert model["name"] == "vit-tiny"
    assert model["results"] == [
        {
            "task": {"type": "image-classification"},
            "dataset": {"type": "uoft-cs/cifar10", "name": "tfds:cifar10:3.0.2", "split": "test"},
            "metrics": [{"type": "accuracy", "name": "test/accuracy", "value": 0.875}],
        }
    ]
    assert "# student of timm" in card and "- `stablehlo/`: MODEL_CARD.md in it" in card
    # Of what is not known nothing is said.
    bare = exported("onnx", data={"trained on": "folder:/photos, split train"}, metrics={})["onnx"]
    said = front_matter(repository_card("jane/x", {"onnx": bare}))
    assert said.keys() == {"license", "pipeline_tag", "tags"}


def test_published_weights_that_say_their_name_are_the_base_model(exported, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    write_json(weights / "config.json", {"_name_or_path": "google/vit-base-patch16-224"})
    teachers = {"teacher": {"source": str(weights)}, "other": {"source": str(tmp_path / "gone")}}
    card = repository_card("jane/x", exported("hf", teachers=teachers))
    assert front_matter(card)["base_model"] == ["google/vit-base-patch16-224"]
    write_json(weights / "config.json", {"_name_or_path": "/home/jane/model"})
    assert "base_model" not in repository_card("jane/x", exported_again(exported, teachers))


def exported_again(exported, teachers):
    return exported("timm", teachers=teachers)


def test_the_table_beside_the_teacher_is_of_the_runs_own_figures(exported, tmp_path):
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    for path in (student, teacher):
        path.mkdir()
    write_json(student / "teachers.json", {"teacher": {"source": str(teacher)}})
    write_json(student / "summary.json", {"parameters": 1000, "test/agreement": 0.75, "val/kl": 2})
    write_json(
        student / "examples.json",
        {
            **{"split": "test", "labelled": True, "label": [0, 1, 1, -1], "of": 4},
            **{"answers": [[0], [1], [0], [0]], "together": {"answers": [[0], [1], [1], [1]]}},
            **{"images_per_second": 4000.4, "device": "1 cpu", "batch_size": 64},
            "teachers": {"teacher": {"parameters": 5000, "images_per_second": 999.6}},
        },
    )
    lines = {"config": {"kind": "split"}, "data": [{"source": "a"}], "time": "then"}
    for path, accuracy in ((student, 0.5), (teacher, 0.625)):
        with (path / "evaluations.jsonl").open("w") as file:
            for name, data in (("same", lines["data"]), ("other", [{"source": path.name}])):
                metrics = {f"{name}/accuracy": accuracy, f"{name}/top5_accuracy": 1.0}
                file.write(json.dumps(lines | dict(name=name, data=data, metrics=metrics)) + "\n")
    card = repository_card("jane/x", exported("hf", workdir=str(student)))
    _, table = card.split("## Beside its teacher\n\n")
    assert table.split("\n\n## Data")[0].splitlines() == [
        "| | student | teacher |",
        "|---|---|---|",
        "| parameters | 1,000 | 5,000 |",
        "| accuracy on 4 images of the test split | 66.67% | 100.00% |",
        "| images per second (1 cpu, batches of 64) | 4,000 | 1,000 |",
        "| `same/accuracy` | 0.5000 | 0.6250 |",
        "",
        "- the same first class, student and teacher on the test split: 75.00%",
        "- KL divergence, in nats, student and teacher on the validation split: 2.0000",
    ]


def test_directories_of_this_machine_are_called_by_their_last_part(exported, tmp_path):
    about = {
        "workdir": "/home/jane/runs/a student",
        "teachers": {"teacher": {"source": "/home/jane/runs/a student/../teacher"}},
        "start": {"workdir": "/home/jane/runs/start"},
        "branched_from": "/home/jane/trunk@500",
        "data": {
            "trained on": "folder:/home/jane/my photos, split train",
            "evaluated on": "folder:/home/jane/my photos, split val (val/)",
        },
        "metrics": {"val/accuracy": "0.5"},
    }
    versions = exported("hf", "onnx", **about)
    for version in versions.values():
        card = version.path / "MODEL_CARD.md"
        lines = "\n".join(json.dumps(one) for one in about.values())
        card.write_text(card.read_text() + lines)
    files = contents("jane/x", versions)
    told = [files[name] for name in ("README.md", "export.json", "onnx/MODEL_CARD.md")]
    for text in told:
        assert b"/home" not in text and b"folder:my photos, split train" in text
        assert b"a student" in text and b"trunk@500" in text
    assert b'"name": "folder:my photos", "split": "val"' in files["README.md"]


def test_a_dry_run_lists_and_asks_nobody(exported, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    push = Push("jane/vit-tiny", private=True, dry_run=True)
    push.check()
    versions = exported("hf")
    assert push.send(versions) is None
    printed = capsys.readouterr().out
    assert printed.startswith("would be uploaded to jane/vit-tiny (private if it is new):\n")
    assert re.search(r"^  model.safetensors +2,000 bytes$", printed, re.MULTILINE)
    assert re.search(r"^  4 files +[\d,]+ bytes$", printed, re.MULTILINE)
    assert printed.endswith(f"README.md:\n\n{repository_card('jane/vit-tiny', versions)}\n")


def test_nobody_waits_for_an_export_that_could_not_be_uploaded(server, monkeypatch):
    with pytest.raises(UserError, match="the token is of jane, who may write to jane/…, lab/…"):
        Push("joe/vit").check()
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(UserError, match=r"does not accept the token.*\n.*hf auth login.*Nothing"):
        Push("jane/vit").check()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunFailed, match=r"127.0.0.1:9 cannot be reached.*\n.*HF_ENDPOINT"):
        Push("jane/vit").check()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=r"needs a token.*hf auth login, or set HF_TOKEN"):
        Push("jane/vit").check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '.\[hub\]'"):
        Push("jane/vit").check()


@pytest.mark.parametrize(
    "end, status, kind, message",
    [
        ("/commit/main", 403, UserError, "the token may not write to jane/vit: refused with 403"),
        ("/preupload/main", 404, UserError, "the token may not write to jane/vit"),
        ("/commit/main", 400, UserError, r"the hub refuses jane/vit \(400\): refused with 400"),
        ("/commit/main", 500, RunFailed, r"the hub refuses jane/vit \(500\): refused with 500"),
    ],
)
def test_what_the_hub_refuses_leaves_the_repository_as_it_was(
    server, exported, end, status, kind, message
):
    versions = exported("hf")
    server.answers[end] = status
    with pytest.raises(UserError, match=message) as caught:
        Push("jane/vit").send(versions)
    assert type(caught.value) is kind
    assert f"what was exported stays: {versions['hf'].path}" in str(caught.value)
    assert server.repositories == {"jane/vit": []}


@pytest.mark.slow
def test_a_run_is_exported_and_uploaded_in_a_line(
    teacher_workdir, server, tmp_path, runtimes_in_this_process
):
    command = ("export", f"--workdir={teacher_workdir}", "--format=stablehlo", "--images=20")
    done = run_command(*command, f"--output={tmp_path}", "--push=joe/vit")
    assert done.returncode == 2 and not [*tmp_path.iterdir()], done.stderr
    done = run_command(*command, f"--output={tmp_path}", "--push_dry_run")
    assert done.returncode == 2 and "goes with --push=USER/REPO" in done.stderr
    done = run_command(*command, f"--output={tmp_path}", "--push=jane/vit", "--push_private")
    assert done.returncode == 0, done.stderr
    ((commit,),) = server.repositories.values()
    version = tmp_path / "stablehlo" / "1"
    uploaded, written = commit["stablehlo/export.json"], (version / "export.json").read_bytes()
    # Directories of this machine are called by their last part.
    assert json.loads(uploaded).keys() == json.loads(written).keys()
    assert str(teacher_workdir).encode() in written and b"/tmp" not in uploaded
    assert "stablehlo/README.md has the lines" in commit["README.md"].decode()
    assert server.private == {"jane/vit": True}
