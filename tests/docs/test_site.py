"""A built site asks no other host for anything."""

import pytest

from website.check import asked_of_others, main

ASKED = {
    '<script src="https://cdn.example/x.js"></script>': '<script src="https://cdn.example/x.js">',
    '<link rel="stylesheet" href="//fonts.example/css">': '<link href="//fonts.example/css">',
    '<img srcset="a.png 1x, https://b.example/b.png 2x">': (
        '<img srcset="a.png 1x, https://b.example/b.png 2x">'
    ),
    "<style>p { background: url('https://c.example/c.png') }</style>": "url('https://c.example/c.png",
    '<p style="background: url(http://d.example/d)">': "url(http://d.example/d",
}
NOT_ASKED = (
    '<a href="https://example.org">x</a><script src="assets/x.js"></script>'
    "<style>p { background: url(x.png) }</style><p>@import https://example.org in words</p>"
    '<link rel="icon" href="assets/icon.png"><code>src="https://example.org/x.js"</code>'
)


@pytest.mark.parametrize("html", ASKED)
def test_what_a_page_loads_from_another_host_is_found(html, tmp_path, capsys):
    (tmp_path / "index.html").write_text(f"<p>text</p>{html}<p>more</p>")
    assert [one for _, one in asked_of_others(tmp_path)] == [ASKED[html]]
    assert main(tmp_path) == 1
    assert "index.html" in capsys.readouterr().err


def test_links_words_and_files_of_its_own_are_not(tmp_path):
    (tmp_path / "index.html").write_text(NOT_ASKED)
    (tmp_path / "site.css").write_text("a { background: url(data:image/png;base64,aa) }")
    assert main(tmp_path) == 0
    (tmp_path / "site.css").write_text("@import 'https://example.org/a.css';")
    assert main(tmp_path) == 1


def test_no_site_is_no_good_site(tmp_path):
    assert main(tmp_path) == 1
