"""Tasks do not need each other."""

from support import run_script


def test_pre_training_loads_nothing_of_matching():
    loaded = run_script(
        "import json, sys, pipelines.pretrain\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('distill.tasks.')]))"
    )
    assert loaded == ["distill.tasks.classification"]
