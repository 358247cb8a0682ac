"""The two steps that are compared are of the same model."""

import json

import pytest

pytestmark = pytest.mark.benchmark

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm_without_torchvision").timm

from benchmarks import against_timm  # noqa: E402

COMMAND = "--batch_size=2 --image_size=32 --num_classes=3 --rounds=3 --steps=1".split()
SIZES = "--width=16 --depth=2 --mlp_dim=32 --heads=2".split()


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Compiling takes most of the time."""
    monkeypatch.setattr(torch, "compile", lambda function: function)


def test_the_ratio_is_of_medians_of_the_same_model(tmp_path, capsys):
    file = tmp_path / "timm.json"
    against_timm.main(["--model=B/16", *COMMAND, *SIZES, f"--json={file}"])
    found = json.loads(file.read_text())
    medians = {n: sorted(s)[1] for n, s in found["round_seconds_per_step"].items()}
    assert found["step_seconds"] == medians
    ours, timms = medians[against_timm.OURS], medians[against_timm.TIMMS]
    assert found["speedup"] == timms / ours
    assert found["images_per_second"][against_timm.TIMMS] == 2 / timms
    assert found["versions"]["timm"] == timm.__version__
    assert f"{timms / ours:.2f} times timm's" in capsys.readouterr().out


@pytest.mark.parametrize(
    "model, message", [("vit_22b:22B/16", "cannot be compared"), ("Q/16", "unknown model 'Q/16'")]
)
def test_a_model_that_timm_does_not_have_is_refused(model, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        against_timm.main([f"--model={model}", *COMMAND, *SIZES])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
