"""What a bucket holds is a run that can go on, wherever the one that wrote it ended."""

import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
import tensorstore

from distill.buckets import Bucket, Copy, fetched, mirror, mirrored, owner, send
from distill.buckets.copies import WHOLE, names_in
from distill.errors import RunFailed, UserError

URL = "s3://bucket/runs/one"
SIZES = {"_METADATA": 10, "params/d/0": 1000, "optimizer/d/0": 500}


class Killed(BaseException):
    """Ends a process where it stands."""


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch) -> Path:
    """A folder in place of a bucket's directory, and an empty machine."""
    place = tmp_path / "bucket"

    def opened(self, path):
        return tensorstore.KvStore.open({"driver": "file", "path": f"{place}/{path}"}).result()

    monkeypatch.setattr(Bucket, "_open", opened)
    monkeypatch.setattr(mirror, "EVERY", 3600.0)
    move(tmp_path, "first")
    return place / "runs/one"


@pytest.fixture
def another(tmp_path):
    """Goes on on a machine that has no copies."""
    return lambda name="second": move(tmp_path, name)


def move(tmp_path: Path, machine: str) -> None:
    os.environ["DISTILL_STAGING"] = str(tmp_path / machine)
    fetched.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def _same_environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_STAGING", "")
        yield


def save(workdir: Path, step: int) -> None:
    """As a run does: its metrics, then a checkpoint that appears whole."""
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    temporary = workdir / "checkpoints" / f"{step}.orbax-checkpoint-tmp-1"
    for name, size in SIZES.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(bytes([step]) * size)
    temporary.rename(workdir / "checkpoints" / str(step))


def steps(workdir: Path) -> set[int]:
    """Of the checkpoints, which must be whole."""
    found = {int(one.name) for one in (workdir / "checkpoints").glob("*")}
    for step in found:
        for name, size in SIZES.items():
            file = workdir / "checkpoints" / str(step) / name
            assert file.read_bytes() == bytes([step]) * size
    return found


def run(workdir: Path, send) -> None:
    """Three checkpoints, of which two are kept, and the end."""
    for step in (1, 2, 3):
        save(workdir, step)
        if step > 2:
            shutil.rmtree(workdir / "checkpoints" / str(step - 2))
            (workdir / "summary.json").write_text("{}")
        send()


def open_mirror() -> tuple[mirror.Mirror, Path]:
    bucket, copy = Bucket(URL), Copy(URL)
    return mirror.Mirror(bucket, copy, copy.fetch(bucket), pytest.fail), copy.directory


def test_another_machine_has_what_a_run_wrote(another):
    with mirrored(URL, pytest.fail) as workdir:
        run(workdir, send=lambda: None)
        (workdir / ".lock").touch()
    written = {*names_in(workdir)}
    another()
    with mirrored(URL, pytest.fail) as elsewhere:
        assert elsewhere != workdir
        assert {*names_in(elsewhere)} == written
        assert not (elsewhere / ".lock").exists()
        assert steps(elsewhere) == {2, 3}


def test_a_checkpoint_that_was_moved_aside_and_saved_again_is_sent_again(another):
    """As by a run that goes back behind a damaged checkpoint; the bucket has both."""
    one, workdir = open_mirror()
    one.end()
    for step in (1, 2):
        save(workdir, step)
    one.send()
    (workdir / "damaged/1/checkpoints").mkdir(parents=True)
    (workdir / "checkpoints/2").rename(workdir / "damaged/1/checkpoints/2")
    (workdir / "damaged/1/checkpoints/2" / min(SIZES)).write_bytes(b"damaged")
    save(workdir, 2)
    one.send()
    another()
    _, elsewhere = open_mirror()
    assert steps(elsewhere) == {1, 2}
    assert (elsewhere / "damaged/1/checkpoints/2" / min(SIZES)).read_bytes() == b"damaged"


def test_wherever_a_run_is_killed_what_counts_is_whole_and_has_its_metrics(
    another, monkeypatch, tmp_path
):
    requests, limit = [0], [10**9]

    def counted(method):
        def request(self, *arguments):
            requests[0] += 1
            if requests[0] > limit[0]:
                raise Killed
            return method(self, *arguments)

        return request

    for name in ("write", "delete"):
        monkeypatch.setattr(Bucket, name, counted(getattr(Bucket, name)))

    def attempt(kill_at: int) -> None:
        shutil.rmtree(tmp_path / "bucket", ignore_errors=True)
        another(f"{kill_at}a")
        requests[0], limit[0] = 0, kill_at
        with contextlib.suppress(Killed):
            one, workdir = open_mirror()
            run(workdir, one.send)
            one.send()
        limit[0] = 10**9

    attempt(10**9)
    total, seen = requests[0], set()
    assert total > 3 * len(SIZES)
    for kill_at in range(total):
        attempt(kill_at)
        another(f"{kill_at}b")
        _, workdir = open_mirror()
        there = steps(workdir)
        seen.add(tuple(there))
        file = workdir / "metrics.jsonl"
        logged = (
            [json.loads(line)["step"] for line in file.read_text().splitlines()] if there else []
        )
        assert there <= {*logged}
        if (workdir / "summary.json").exists():
            assert 3 in there
        # What did not count is gone.
        assert {name for name in Bucket(URL).names() if "checkpoints/" in name} == {
            f"checkpoints/{step}/{name}" for step in there for name in SIZES
        }
    assert seen == {(), (1,), (1, 2), (2, 3)}


def test_a_checkpoint_that_is_deleted_while_it_is_sent_is_sent_whole(another, monkeypatch):
    one, workdir = open_mirror()
    save(workdir, 1)
    write = Bucket.write

    def delete_first(self, name, content):
        shutil.rmtree(workdir / "checkpoints/1", ignore_errors=True)
        write(self, name, content)

    monkeypatch.setattr(Bucket, "write", delete_first)
    one.send()
    another()
    assert steps(open_mirror()[1]) == {1}


def test_a_copy_that_is_ahead_goes_on_and_one_that_is_behind_is_replaced(another, monkeypatch):
    with mirrored(URL, pytest.fail) as workdir:
        save(workdir, 1)
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunFailed) as raised,
        mirrored(URL, pytest.fail) as workdir,
    ):
        save(workdir, 2)
        patch.setattr(Bucket, "write", lambda *_: (_ for _ in ()).throw(RunFailed("away")))
    assert "away" in str(raised.value) and str(workdir) in str(raised.value)
    # As that of a process that has ended.
    Bucket(URL).delete(owner.OWNER)
    with mirrored(URL, pytest.fail) as workdir:
        assert steps(workdir) == {1, 2}
    another()
    with mirrored(URL, pytest.fail) as workdir:
        assert steps(workdir) == {1, 2}
        save(workdir, 3)
    another("first")
    with mirrored(URL, pytest.fail) as workdir:
        assert steps(workdir) == {1, 2, 3}


def test_a_bucket_that_fails_meanwhile_stops_the_run(monkeypatch):
    monkeypatch.setattr(mirror, "EVERY", 0.01)
    stopped = []
    with (
        pytest.raises(RunFailed, match=r"s3://bucket/runs/one/metrics.jsonl is away"),
        mirrored(URL, lambda: stopped.append(True)) as workdir,
    ):

        def fail(self, name, content):
            raise RunFailed(f"{self.url}/{name} is away")

        monkeypatch.setattr(Bucket, "write", fail)
        (workdir / "metrics.jsonl").write_text("{}")
        deadline = time.monotonic() + 20
        while not stopped and time.monotonic() < deadline:
            time.sleep(0.01)
    assert stopped == [True]
    assert (workdir / "metrics.jsonl").read_text() == "{}"


@pytest.mark.parametrize("rest", [[], [".distill/copy.json"]])
def test_a_copy_that_was_emptied_empties_no_bucket(rest):
    with mirrored(URL, pytest.fail) as workdir:
        save(workdir, 1)
    for file in workdir.rglob("*"):
        if file.is_file() and str(file.relative_to(workdir)) not in rest:
            file.unlink()
    with mirrored(URL, pytest.fail) as workdir:
        assert steps(workdir) == {1}


def test_a_run_does_not_begin_among_other_things():
    Bucket(URL).write("photos/1.jpg", b"pixels")
    with (
        pytest.raises(UserError, match=r"holds 1 objects, such as photos/1\.jpg"),
        mirrored(URL, pytest.fail),
    ):
        pytest.fail("it was let in")
    assert Bucket(URL).names() == ["photos/1.jpg"]


def test_what_was_copied_there_by_other_means_counts(bucket):
    bucket.mkdir(parents=True)
    save(bucket, 7)
    (bucket / "config.json").write_text("{}")
    assert steps(open_mirror()[1]) == {7}
    assert json.loads((bucket / WHOLE).read_text())["units"]["checkpoints/7"]["files"] == SIZES


def test_a_copy_to_read_leaves_out_what_only_training_needs(another):
    with mirrored(URL, pytest.fail) as workdir:
        save(workdir, 1)
    another()
    found = {*names_in(fetched(URL))}
    assert found == {"metrics.jsonl", "checkpoints/1/_METADATA", "checkpoints/1/params/d/0"}
    (fetched(URL) / "evaluations.jsonl").write_text("{}")
    send(URL, "evaluations.jsonl")
    another("third")
    assert (fetched(URL) / "evaluations.jsonl").read_text() == "{}"


def test_a_file_that_another_sent_is_not_sent_back_as_it_was(another):
    with mirrored(URL, pytest.fail) as workdir:
        (workdir / "evaluations.jsonl").write_text("1")
    another()
    (fetched(URL) / "evaluations.jsonl").write_text("2")
    send(URL, "evaluations.jsonl")
    another("first")
    with mirrored(URL, pytest.fail) as workdir:
        (workdir / "metrics.jsonl").write_text("{}")
    assert Bucket(URL).read("evaluations.jsonl") == b"2"


def test_a_bucket_with_nothing_is_no_run_to_read():
    with pytest.raises(UserError, match="s3://bucket/runs/one holds nothing"):
        fetched(URL)


def test_a_checkpoint_that_lacks_a_file_is_said(bucket, another):
    with mirrored(URL, pytest.fail) as workdir:
        save(workdir, 1)
    (bucket / "checkpoints/1/params/d/0").write_bytes(b"short")
    another()
    with pytest.raises(RunFailed, match="lacks files of a checkpoint"):
        fetched(URL)


def owned(**says) -> None:
    there = {"token": "t", "host": "elsewhere", "pid": 1, "beat": time.time()}
    Bucket(URL).write(owner.OWNER, json.dumps(there | says).encode())


def test_one_process_is_at_work():
    with (
        mirrored(URL, pytest.fail),
        pytest.raises(UserError, match=f"at work in {URL}: {os.getpid()} on "),
    ):
        owner.Owner(Bucket(URL), pytest.fail)
    owned()
    with pytest.raises(UserError, match="1 on elsewhere"), mirrored(URL, pytest.fail):
        pytest.fail("it was let in")


@pytest.mark.parametrize(
    "says",
    [
        {"beat": time.time() - owner.SILENCE - 1},
        # The largest number of a process is 2²².
        {"host": socket.gethostname(), "pid": 2**22 + 1},
    ],
)
def test_one_that_is_gone_keeps_nobody_away(says):
    owned(**says)
    with mirrored(URL, pytest.fail):
        pass
    assert Bucket(URL).read(owner.OWNER) is None


def test_one_that_was_taken_over_from_finds_out_and_leaves_the_other(monkeypatch):
    monkeypatch.setattr(owner, "BEAT", 0.01)
    lost = []
    one = owner.Owner(Bucket(URL), lost.append)
    monkeypatch.setattr(one, "_beat", lambda: None)
    owned()
    deadline = time.monotonic() + 20
    while not lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "taken over s3://bucket/runs/one: 1 on elsewhere" in str(lost[0])
    one.release()
    assert Bucket(URL).read(owner.OWNER) is not None


def test_a_copy_that_cannot_be_written_says_where_it_was_to_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISTILL_STAGING", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="DISTILL_STAGING"), mirrored(URL, pytest.fail):
        pytest.fail("it was opened")
