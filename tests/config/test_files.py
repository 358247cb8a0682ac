import pytest

from distill.config import load_file
from distill.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_config_file_gives_nested_dictionaries(write):
    path = write(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(dict(a=dict(b=(1, 2)), c='x'))\n"
    )
    assert load_file(path) == {"a": {"b": (1, 2)}, "c": "x"}


def test_config_file_may_give_a_plain_dictionary(write):
    assert load_file(write("def get_config():\n    return dict(a=1)\n")) == {"a": 1}


def test_argument_after_the_colon_reaches_the_file(write):
    path = write("def get_config(size='B'):\n    return dict(size=size)\n")
    assert load_file(path) == {"size": "B"}
    assert load_file(f"{path}:L/16") == {"size": "L/16"}
    assert load_file(f"{path}:a:b") == {"size": "a:b"}


def test_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none.py' does not exist"):
        load_file(f"{tmp_path}/none.py")


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n", "does not run.*line 1"),
        ("import no_such_module\n", "does not run.*no_such_module"),
        ("value = nothing\n", "does not run.*nothing"),
        ("def config():\n    return {}\n", "has no function get_config"),
        ("", "has no function get_config"),
    ],
)
def test_broken_config_file_says_what_is_wrong(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        load_file(path)
    assert path in str(caught.value)


def test_file_that_is_not_python_is_refused(write):
    with pytest.raises(UserError, match="not a Python file"):
        load_file(write("a: 1\n", "config.yaml"))


def test_directory_is_no_config_file(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_file(str(tmp_path))


def test_argument_a_file_does_not_take_is_refused(write):
    path = write("def get_config():\n    return {}\n")
    with pytest.raises(UserError, match="takes no argument, but got 'L'"):
        load_file(f"{path}:L")


def test_argument_a_file_refuses_is_refused_in_its_words(write):
    path = write("def get_config(size='B'):\n    raise ValueError(f'no size {size}; take B')\n")
    with pytest.raises(UserError, match="no size L; take B"):
        load_file(f"{path}:L")


def test_argument_a_file_needs_is_asked_for(write):
    path = write("def get_config(size):\n    return dict(size=size)\n")
    with pytest.raises(UserError, match="argument"):
        load_file(path)
