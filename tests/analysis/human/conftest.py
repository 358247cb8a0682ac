import pytest

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.trials import write_trials


@pytest.fixture(scope="session")
def raw_data(tmp_path_factory):
    """The trials that come with the project, as files."""
    folder = tmp_path_factory.mktemp("raw-data")
    write_trials(folder, shipped_trials())
    return folder


@pytest.fixture(scope="session")
def alignment():
    return human_alignment(shipped_trials(), AlignmentConfig(resamples=0))
