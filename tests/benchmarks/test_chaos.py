"""The campaign of faults finds nothing where nothing is wrong, and what is wrong where it is."""

import json
import os

import pytest
from support import REPOSITORY, run_python

pytestmark = pytest.mark.slow


def campaign(output, *options, before=""):
    """Runs it as a command, in which something is broken first, and returns what it printed."""
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\n"
        "from benchmarks.chaos import environment\n"
        f"environment.settle(Path({str(output)!r}) / 'cache')\n"
        f"{before}\n"
        "from benchmarks.chaos.__main__ import main\n"
        f"sys.exit(main([{f'--output={output}'!r}, *{list(options)!r}]))\n"
    )
    # What tests set for JAX is not what the campaign does.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    return run_python("-c", script, env=plain)


def trials(output):
    lines = (output / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


QUICK = "--trials=images=60,weights=20,stores=20,sources=20"


def test_a_short_campaign_is_clean_and_goes_on_where_it_was(tmp_path):
    done = campaign(tmp_path, QUICK, "--markdown")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "| images | 60 | 60 | 0 | 0 | 0 | 0 |" in done.stdout
    assert len(trials(tmp_path)) == 120

    done = campaign(tmp_path, QUICK.replace("stores=20", "stores=21"))
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [one["number"] for one in trials(tmp_path)[120:]] == [20]
    # A trial alone is the same, and is kept.
    done = campaign(tmp_path, "--only=stores:20")
    assert done.returncode == 0 and (tmp_path / "trials/stores-20/store").is_dir()
    *_, first, second = trials(tmp_path)
    assert first["tried"] == second["tried"]


def test_a_store_that_is_not_checked_is_silent(tmp_path):
    unchecked = (
        "from distill.data import store\n"
        "import numpy as np\n"
        "def read(self, position):\n"
        "    try:\n"
        "        return np.frombuffer(self._records[position], self._layout)[0]\n"
        "    except RuntimeError:\n"
        "        return np.zeros((), self._layout)[()]\n"
        "store.Store.read = read"
    )
    done = campaign(tmp_path, "--trials=stores=20", before=unchecked)
    assert done.returncode == 1, done.stdout
    assert "silent" in {one["came"] for one in trials(tmp_path)}
    assert "stores" in done.stdout.splitlines()[-1]


ONE_KILL = """
from pathlib import Path
from benchmarks.chaos.fault import Fault
from benchmarks.chaos.faults import kills
from benchmarks.chaos.programs import PROGRAMS
def trial(random, directory, given):
    # After the second checkpoint of three, so that the run goes on from there.
    kill = kills.Kill(None, "rename run/checkpoints", 2)
    return kills.killed(PROGRAMS["training"], [kill], directory, given)
kills.FAULT = Fault(name="kills", tries="one", trials=1, trial=trial)
"""
# A run that goes on forgets the figures of the steps it has made.
FORGETS = """
from distill.train import fit
def forgets(workdir, *rest):
    (workdir / "metrics.jsonl").unlink(missing_ok=True)
    return opened(workdir, *rest)
opened, fit.open_log = fit.open_log, forgets
"""


def test_a_killed_run_is_clean_and_one_that_forgets_is_lost(tmp_path):
    done = campaign(tmp_path, "--trials=kills=1", before=ONE_KILL)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    done = campaign(tmp_path, "--only=kills:0", before=ONE_KILL + FORGETS)
    assert done.returncode == 1, done.stdout
    assert trials(tmp_path)[-1]["came"] == "lost"
    assert "run/metrics.jsonl" in trials(tmp_path)[-1]["told"]


CRASHES = """
import os, signal
from benchmarks.chaos.fault import CLEAN, Fault, Outcome
from benchmarks.chaos.faults import stores
def trial(random, directory, given):
    if directory.name.endswith("-1"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if directory.name.endswith("-2"):
        signal.pause()
    return Outcome(CLEAN, "nothing")
stores.FAULT = Fault(name="stores", tries="all", trials=4, trial=trial, seconds=2, together=4)
"""


def test_a_crash_and_a_hang_are_those_of_their_trials_alone(tmp_path):
    done = campaign(tmp_path, "--trials=stores=4", before=CRASHES)
    assert done.returncode == 1, done.stderr[-2000:]
    found = {one["number"]: one["came"] for one in trials(tmp_path)}
    assert found == {0: "clean", 1: "traceback", 2: "hung", 3: "clean"}


# A bit in what each class of an export is called, which is asked about photographs.
NAMES = """
from benchmarks.chaos.fault import Fault
from benchmarks.chaos.faults import damages
def flip(file, random):
    names = file.read_bytes()
    file.write_bytes(bytes(one ^ 1 if chr(one).isdigit() else one for one in names))
    return "flipped"
def trial(random, directory, given):
    def names(files):
        return next(file for file in files if file.name == "class_names.json"), random
    own = given / "played" / directory.name
    return damages.played(damages.SCENES["served"], own, given, names)
damages.damaged = flip
damages.FAULT = Fault(name="damages", tries="one", trials=2, trial=trial, seconds=1000)
"""
UNCHECKED = """
from distill.export import versions
versions.damage_in = lambda *_, **__: []
"""


def test_other_names_of_classes_are_clean_and_silent_where_checksums_are_not_compared(tmp_path):
    done = campaign(tmp_path, "--trials=damages=1", before=NAMES)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert trials(tmp_path)[-1]["tried"].endswith("refused")
    done = campaign(tmp_path, "--only=damages:1", before=NAMES + UNCHECKED)
    assert done.returncode == 1, done.stdout
    assert trials(tmp_path)[-1]["came"] == "silent", trials(tmp_path)[-1]
