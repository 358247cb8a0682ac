"""How encoders are executed, as runs tell it and keep it."""

import json

from support import pretrain_config

from distill.train.workdir import Workdir
from pipelines import pretrain


def test_what_is_chosen_is_said_and_not_recorded(tmp_path, capsys):
    def run(**how):
        config = pretrain_config(**{f"model__{key}": value for key, value in how.items()})
        pretrain.run(config, Workdir(tmp_path), overview=False)
        return capsys.readouterr().err

    def recorded():
        model = json.loads((tmp_path / "config.json").read_text())["model"]
        return model["remat"], model["unroll"]

    said = run(unroll="auto")
    assert "pretrain: config.model runs with remat=none, unroll=true: 2 layers on a CPU\n" in said
    assert "warning" not in said and recorded() == ("auto", "auto")
    # The same run, executed otherwise: what cannot save anything is told.
    said = run(unroll="true", remat="full")
    assert "runs with" not in said and "complete already" in said
    assert "warning: config.model.remat=full takes time and saves no memory" in said
    assert "warning" not in run(unroll="false", remat="full")
