"""Accuracy on corrupted views, of a run."""

import numpy as np
import pytest

from distill.data.corruptions import CORRUPTIONS, Corruption
from distill.evaluate.corruptions import CorruptionsConfig
from distill.evaluate.split import SplitConfig
from distill.runs.evaluated import FILE, evaluate, kept


def test_accuracy_on_corrupted_views_is_that_of_images_corrupted_beforehand(
    teacher_workdir, capsys
):
    some = CorruptionsConfig(corruptions=("contrast", "impulse_noise"), severities=(1, 5), side=32)
    found = evaluate(teacher_workdir, {"r": some, "clean": SplitConfig(split="test")})
    names = {*some.corruptions, "clean_accuracy", "mean_accuracy", "relative_accuracy"}
    assert {key for key in found if key.startswith("r/")} == {f"r/{one}" for one in names}
    (line,) = [one for one in kept(teacher_workdir / FILE) if one["name"] == "r"][-1:]
    by_severity = line["details"]["accuracy"]
    assert found["r/clean_accuracy"] == pytest.approx(found["clean/accuracy"])
    means = [found["r/contrast"], found["r/impulse_noise"]]
    assert means[0] == pytest.approx(np.mean([by_severity["contrast"][s] for s in ("1", "5")]))
    assert found["r/mean_accuracy"] == pytest.approx(np.mean(means))
    expected = np.mean(means) / found["r/clean_accuracy"]
    assert found["r/relative_accuracy"] == pytest.approx(expected)
    expected = _by_hand(teacher_workdir, "contrast", 5, side=32)
    assert by_severity["contrast"]["5"] == pytest.approx(expected)
    assert "360 images of digits, clean and in 4 corruptions" in capsys.readouterr().out


def _by_hand(workdir, name, severity, side):
    """The accuracy on views that are cut and corrupted one by one, in one batch."""
    import jax

    from distill.data.sources.digits import Digits
    from distill.parallel import MeshConfig, make_mesh
    from distill.runs.opened import open_model

    opened = open_model(workdir, make_mesh(MeshConfig()))
    source = Digits("test", channels=opened.network.config.channels)
    corrupt = Corruption(name, severity, side=side)
    views = np.stack([corrupt(source.read(i)["image"], i) for i in range(len(source))])
    logits = opened.network.apply(opened.params, opened.network.prepare(views)).logits
    return (jax.device_get(logits).argmax(axis=1) == source.labels).mean()


def test_a_run_is_measured_on_some_images_while_it_trains(teacher_workdir, capsys):
    some = CorruptionsConfig(corruptions=("jpeg",), severities=(3,), images=10)
    found = evaluate(teacher_workdir, {"r": some})
    assert found["r/clean_accuracy"] * 10 == pytest.approx(round(found["r/clean_accuracy"] * 10))
    assert "10 images of digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"corruptions": ("snow",)}, "there is no corruption 'snow'; there are gaussian_noise"),
        ({"severities": (0,)}, "severities must be a whole number from 1 to 5, not 0"),
        ({"severities": ()}, "give some of 1 to 5"),
        ({"corruptions": ("fog", "fog")}, "'fog' twice"),
        ({"images": 0}, "images must be a whole number from 1"),
    ],
)
def test_impossible_suites_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        CorruptionsConfig(**asked)


def test_all_corruptions_are_taken_where_none_is_named():
    assert {one.name for one in CorruptionsConfig().all} == CORRUPTIONS.keys()
    assert len(CorruptionsConfig().all) == 5 * len(CORRUPTIONS)
