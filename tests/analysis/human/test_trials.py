"""Files of trials are read as the toolbox writes them, and what is wrong in them is named."""

import dataclasses

import numpy as np
import pytest

from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.datasets import DATASETS, image_id
from distill.analysis.human.trials import COLUMNS, Trials, find_sets, read_trials, write_trials
from distill.errors import UserError

HEADER = ",".join(COLUMNS)
ROW = "resnet50,1,1,NaN,knife,airplane,NaN,airplane1.png"
NEXT = "resnet50,1,2,NaN,na,dog,NaN,dog1.png"


@pytest.fixture
def written(tmp_path):
    def write(*lines, folder="edge", end="\n", encoding="utf-8"):
        file = tmp_path / folder / "trials.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes("".join(line + end for line in lines).encode(encoding))
        return file

    return write


def same(one: Trials, other: Trials) -> bool:
    names = {field.name for field in dataclasses.fields(Trials)} - {"seconds", "source", "lines"}
    # Files hold 15 digits.
    alike = np.allclose(one.seconds, other.seconds, rtol=1e-14, atol=0, equal_nan=True)
    return alike and all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)


def test_a_file_holds_one_observers_trials(written):
    trials = read_trials(written(HEADER, ROW, NEXT))
    assert (trials.dataset, trials.observer, trials.is_human) == ("edge", "resnet50", False)
    assert trials.answers.tolist() == [13, -1]
    assert trials.categories.tolist() == [0, 10]
    assert trials.images == ("airplane1.png", "dog1.png")
    assert np.isnan(trials.seconds).all()
    assert trials.place(1).endswith("trials.csv, line 3")


@pytest.mark.parametrize(
    ("lines", "how"),
    [
        ((HEADER.replace("session", "Session"), ROW, NEXT), {}),
        ((HEADER, ROW, "", NEXT, ""), {}),
        ((HEADER, ROW, NEXT), {"end": "\r\n"}),
        ((HEADER, ROW, NEXT), {"encoding": "utf-8-sig"}),
        ((f"extra,{HEADER}", f"x,{ROW}", f'"a,b",{NEXT}'), {}),
        (
            [",".join(reversed(line.split(","))) for line in (HEADER, ROW, NEXT)],
            {},
        ),
    ],
)
def test_files_that_say_the_same_are_read_the_same(lines, how, written):
    expected = read_trials(written(HEADER, ROW, NEXT))
    assert same(read_trials(written(*lines, **how)), expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), r"line 1: subj, session, .* missing; expected the columns subj,session"),
        ((HEADER,), "holds no trials"),
        ((HEADER.replace("imagename", "image"), ROW), "line 1: imagename missing"),
        ((HEADER.replace(",", ";"), ROW), "separated by ';'; expected commas"),
        ((HEADER, ROW, "resnet50,1,2"), "line 3: 3 values; expected 8"),
        ((HEADER, ROW, NEXT.replace("na,", "nan,")), "line 3: object_response is 'nan'; expected"),
        ((HEADER, ROW.replace("knife", "Knife"), NEXT), "line 2: object_response is 'Knife'"),
        ((HEADER, ROW, "", NEXT.replace("dog,", "wolf,")), "line 4: category is 'wolf'; expected"),
        ((HEADER, ROW, NEXT.replace("dog,", "na,")), "line 3: category is 'na'; expected"),
        ((HEADER, ROW, NEXT.replace("1,2", "1,two")), "line 3: trial is 'two'; expected a whole"),
        ((HEADER, ROW, NEXT.replace("1,2", "1.5,2")), "line 3: session is '1.5'; expected a whole"),
        (
            (HEADER, ROW, NEXT.replace("NaN,na", "fast,na")),
            "line 3: rt is 'fast'; expected seconds",
        ),
        ((HEADER, ROW, "vgg" + NEXT), "line 3: subj is 'vggresnet50', but 'resnet50' in line 2"),
        ((HEADER, ROW, '"' + NEXT), "line 3: "),
    ],
)
def test_what_is_wrong_in_a_file_is_named_by_its_line(lines, message, written):
    file = written(*lines)
    with pytest.raises(UserError, match=message) as caught:
        read_trials(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_text_or_of_no_set_is_refused(written):
    with pytest.raises(UserError, match="not UTF-8"):
        read_trials(written(HEADER, ROW.replace("knife", "é"), encoding="latin-1"))
    with pytest.raises(UserError, match=r"named after their set, one of colour, .*; found 'edges'"):
        read_trials(written(HEADER, ROW, folder="edges"))


def test_what_is_written_is_read_again_and_named_as_the_toolbox_names_it(tmp_path):
    chosen = [
        one
        for one in shipped_trials()
        if (one.dataset, one.observer)
        in {("colour", "subject-02"), ("colour", "simclr_resnet50x1"), ("edge", "resnet50")}
    ]
    files = write_trials(tmp_path, chosen)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "colour/colour_subject-02_session_1.csv",
        "colour/colour_simclr-resnet50x1_session-1.csv",
        "edge/edge_resnet50_session-1.csv",
    ]
    assert all(map(same, map(read_trials, files), chosen))
    assert read_trials(files[1]).observer == "simclr_resnet50x1"


def test_each_session_has_a_file(tmp_path):
    [one] = [t for t in shipped_trials() if (t.dataset, t.observer) == ("edge", "resnet50")]
    sessions = np.repeat([1, 2], 80)
    files = write_trials(tmp_path, [dataclasses.replace(one, sessions=sessions)])
    assert [file.name for file in files] == [
        "edge_resnet50_session-1.csv",
        "edge_resnet50_session-2.csv",
    ]
    assert [len(read_trials(file)) for file in files] == [80, 80]


def test_folders_of_sets_are_found_and_others_told(tmp_path, written):
    written(HEADER, ROW)
    written(HEADER, ROW, folder="mine")
    (tmp_path / "colour").mkdir()
    sets, others = find_sets(tmp_path)
    assert ({name: len(files) for name, files in sets.items()}, others) == ({"edge": 1}, ["mine"])


def test_a_folder_without_trials_says_where_they_may_be(tmp_path, written):
    with pytest.raises(
        UserError, match=r"holds no trials: expected files such as .*/edge/edge_res"
    ):
        find_sets(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        find_sets(tmp_path / "none")
    file = written(HEADER, ROW, folder="edges")
    with pytest.raises(UserError, match=r"edges has the name of no set: .*; did you mean edge"):
        find_sets(tmp_path)
    file.parent.rename(tmp_path / "edge")
    with pytest.raises(UserError, match=f"trials of one set; give the folder above it, {tmp_path}"):
        find_sets(tmp_path / "edge")
    (tmp_path / "above" / "raw-data").mkdir(parents=True)
    with pytest.raises(UserError, match=r"above holds no trials; give .*/above/raw-data"):
        find_sets(tmp_path / "above")


@pytest.mark.parametrize(
    ("dataset", "texts", "condition"),
    [
        ("false-colour", ("true", "True", "TRUE"), "true"),
        ("high-pass", ("3", "3.0", "3.00"), "3"),
        ("high-pass", ("inf", "Inf"), "inf"),
        ("uniform-noise", ("0.90", "0.9", ".9"), "0.9"),
        ("uniform-noise", ("0.00", "0", "0.0"), "0"),
        ("eidolonI", ("1-10-10",), "1-10-10"),
        ("edge", ("NaN", "0", ""), "0"),
        ("rotation", ("NaN",), "NaN"),
    ],
)
def test_a_condition_has_one_spelling(dataset, texts, condition):
    assert {DATASETS[dataset].condition(text) for text in texts} == {condition}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("airplane1-bicycle2.png", "airplane1-bicycle2.png"),
        ("0001_s5n_s01_0_bird_00_bird3-bird2.png", "bird3-bird2.png"),
        ("0001_cl_s01_cr_oven_40_n04111531_14126.png", "n04111531_14126.png"),
        ("n02951358_5952.JPEG", "n02951358_5952.JPEG"),
        ("0800_ske_dnn_0_truck_00_truck-0386-sketch-34.png", "truck-0386-sketch-34.png"),
    ],
)
def test_an_image_is_known_by_the_end_of_its_name(name, image):
    assert image_id(name) == image
