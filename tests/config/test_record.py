import json
from pathlib import Path

import pytest
from small_config import Run

from distill.config import load_file, resolve, to_dict, with_defaults
from pipelines.pretrain import PretrainConfig

DIGITS = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "digits.py"


def test_resolved_config_survives_json():
    tree = {
        "model": {"variant": "L", "sizes": (1, 2)},
        "optimizer": {"decay": (("a", 1.0), ("b", 0.1))},
        "share": None,
    }
    config = resolve(Run, tree)
    plain = to_dict(config)
    assert resolve(Run, plain) == config
    assert json.loads(json.dumps(plain)) == plain
    assert plain["optimizer"]["decay"] == [["a", 1.0], ["b", 0.1]]


def test_pretraining_config_survives_json():
    overrides = {"train.batch_size": "48", "model.width": "36"}
    config = resolve(PretrainConfig, load_file(str(DIGITS)), overrides)
    assert config.train.batch_size == 48 and config.model.width == 36
    patterns, decays = zip(*config.optimizer.weight_decay, strict=True)
    assert patterns == ("classifier/kernel$", "kernel$")
    assert decays == pytest.approx((9e-3, 9e-5))
    plain = json.loads(json.dumps(to_dict(config)))
    assert resolve(PretrainConfig, plain) == config


def test_a_config_of_an_earlier_version_gets_the_defaults_of_newer_keys():
    config = resolve(PretrainConfig, load_file(str(DIGITS)))
    recorded = to_dict(config)
    del recorded["seed"], recorded["data"]["exif_orientation"], recorded["transfer"]
    del recorded["data"]["view"]["eval_crop"], recorded["train"]["total_steps"]
    completed = with_defaults(config, recorded)
    assert completed["data"]["exif_orientation"] is False
    # The default, not what the config has now.
    assert config.data.view.eval_crop == 1.0
    assert completed["data"]["view"]["eval_crop"] is None
    assert completed["train"]["total_steps"] is None
    assert "source" in completed["data"] and completed["seed"] == 0
    assert with_defaults(config, to_dict(config)) == to_dict(config)
