"""What is said at a run's end."""

from pathlib import Path

from distill.buckets import copies, place_of


def test_a_file_of_a_copy_is_called_as_it_is_in_the_bucket(monkeypatch):
    monkeypatch.setattr(copies, "_urls", {Path("/cache/1"): "gs://bucket/run"})
    assert place_of(Path("/cache/1")) == "gs://bucket/run"
    assert place_of(Path("/cache/1/S/report.html")) == "gs://bucket/run/S/report.html"
    assert place_of(Path("/cache/12/report.html")) == "/cache/12/report.html"
