"""Searches over tiny shapes, as a user makes them."""

import copy
import importlib.util
import json
import re

import pytest
from support import REPOSITORY

from distill.errors import RunFailed, UserError
from pipelines.shapefinder import FLAGS, main

pytestmark = [
    pytest.mark.usefixtures("tpu_compiler"),
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu (the extra plan)"
    ),
]
TINY = (
    f"--config={REPOSITORY / 'configs/pretrain/digits.py'}",
    *("--patch=4", "--batch=8", "--widths=16", "--depths=1:2:1", "--head_dims=8", "--base=none"),
    "--config.model.head=gap",
)


@pytest.fixture
def find(monkeypatch):
    """Searches the tiny shapes, with further flags."""

    def run(*flags):
        # Flags keep their values between calls within one process.
        monkeypatch.setattr("pipelines.shapefinder.FLAGS", copy.deepcopy(FLAGS))
        main([*TINY, *flags])

    return run


@pytest.mark.slow
def test_a_search_compiles_keeps_and_reports(find, tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'kept'}"
    find(workdir, "--json", f"--report={tmp_path / 'page.html'}")
    found = json.loads(capsys.readouterr().out)
    # One compilation, of the deeper shape, settles both.
    (deep,) = found["shapes"]
    assert (deep["width"], deep["depth"], deep["mlp_dim"], deep["heads"]) == (16, 2, 128, 2)
    assert [(one["depth"], one["fits"]) for one in found["not_compiled"]] == [(1, True)]
    # Parameters in float32, and Adafactor's first moment in bfloat16.
    assert 6 * deep["parameters"] < deep["bytes_per_chip"] <= found["budget_bytes_per_chip"]
    estimated = deep["estimated"]
    assert estimated["images_per_second"] == pytest.approx(8 / estimated["step_seconds"])
    assert "<td>128</td>" in (tmp_path / "page.html").read_text()

    find(workdir)
    again = capsys.readouterr()
    assert "1 shapes are known already" in again.err
    assert "compiling" not in again.err
    assert "the largest and the highest MFU elsewhere: 16·2·128·2" in again.out

    with pytest.raises(RunFailed, match="no shape fits"):
        find(workdir, f"--memory={deep['bytes_per_chip'] / 2**30 / 2}")
    assert "does not fit" in capsys.readouterr().out

    with pytest.raises(UserError, match=r"optimizer\.name: 'adafactor' there, 'adam' now"):
        find(workdir, "--config.optimizer.name=adam")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--topology=v9:4x4"], "known are v4, v5p, v5e, v6e"),
        (["--widths=100"], "width 100 cannot be divided into heads of 8"),
        (["--widths=32,"], "--widths has ''; expected numbers such as 1024,1408"),
        (["--widths=32:64:0"], "--widths has '32:64:0'"),
        (["--widths=64:32:16"], "widths has no number in it"),
        (["--depths=2.5"], "--depths has '2.5'"),
        (["--mlp_ratios=0"], "--mlp_ratios has 0.0; expected number from 1e-06"),
        (["--mlp_ratios=1:4:1"], "--mlp_ratios has '1:4:1'"),
        (["--memory=17"], "at most 15.75"),
        (["--memory=0"], "expected number above 0"),
        (["--base=Z"], "none or one of mu, Ti"),
        (["--patch=3"], "image size 8×8 is not divisible by patch size 3"),
        (["--config.model.width=64"], "use --widths"),
        (["--config.train.batch_size=64"], "use --batch"),
        (["--config.model.position_embedding=sincos2d", "--widths=6", "--head_dims=6"], "sincos2d"),
        (["--config.train.microbatches=3"], "cannot share evenly"),
        (["--config.mesh.data=3"], "does not fill 1 device"),
        (["--report=/dev/null/x.html"], "cannot write"),
        (["--workdir=/dev/null/x"], "cannot write"),
        (["--config=nowhere.py"], "does not exist"),
    ],
)
def test_mistakes_are_explained(find, flags, message):
    with pytest.raises(UserError, match=re.escape(message)):
        find(*flags)


@pytest.mark.parametrize("flag", ["--widths=", "--depths=", "--mlp_ratios="])
def test_lists_need_values(find, flag):
    with pytest.raises(UserError, match=f"{flag[:-1]} needs a value"):
        find(flag)
