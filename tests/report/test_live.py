"""The server of a page that brings itself up to date."""

import http.client
import json
import shutil
import socket
import threading

import pytest
from pages import Page
from watched_run import begin, row, write

from distill.errors import UserError
from distill.report.live import ADDRESS, Server


@pytest.fixture
def workdir(tmp_path):
    path = tmp_path / "run"
    begin(path)
    return path


@pytest.fixture
def server(workdir):
    server = Server(workdir, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert not thread.is_alive()


def get(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def live(server, have=""):
    answer, text = get(server, f"/live?have={have}")
    assert answer.status == 200
    return json.loads(text)


def test_it_listens_to_this_machine_alone(server):
    assert server.server_address[0] == ADDRESS == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_the_page_is_whole_and_asks_only_its_server(server):
    answer, text = get(server, "/")
    page = Page(text)
    assert answer.status == 200 and "step 20" in " ".join(page.texts)
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert "connect-src 'self'" in policy and "default-src 'none'" in policy
    assert len(page.scripts) == 2
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "", None, "localhost.:1"],
)
def test_other_names_are_refused(server, host):
    for path in ("/", "/live", "/report/run"):
        answer, text = get(server, path, Host=host)
        assert answer.status == 403 and "step" not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "127.0.0.1:1", "[::1]:8123"])
def test_names_of_this_machine_are_answered_at_any_port(server, host):
    """As SSH brings the page to another one."""
    assert get(server, "/", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/config.json",
        "/report/",
        "/report/..",
        "/report/../run",
        "/report/%2e%2e%2fsecret",
        "/report//etc/passwd",
        "/../secret/report.html",
        "/report/secret",
        "//127.0.0.1/live",
        "/%00",
    ],
)
def test_there_is_nothing_beside_the_three_addresses(server, workdir, path):
    (workdir.parent / "secret").mkdir()
    (workdir.parent / "secret" / "report.html").write_text("secret")
    answer, text = get(server, path)
    assert answer.status == 404 and "secret" not in text


def test_the_report_is_there_when_it_is(server, workdir):
    assert get(server, "/report/run")[0].status == 404
    (workdir / "report.html").write_text("<p>The page</p>")
    answer, text = get(server, "/report/run")
    assert (answer.status, text) == (200, "<p>The page</p>")
    assert "/report/run" in live(server)["content"]
    assert get(server, "/report/run", "HEAD")[1] == ""


def test_content_comes_when_there_is_news_of_it(server, workdir):
    first = live(server)
    again = live(server, first["version"])
    assert "content" in first and "content" not in again
    write(workdir, row(1), row(20), row(21))
    news = live(server, first["version"])
    assert news["version"] != first["version"] and "content" in news
    assert "step 21" in news["status"] and news["title"].startswith("35%")


def test_a_run_may_go_and_come_back(server, workdir):
    before = live(server)
    shutil.rmtree(workdir)
    gone = live(server, before["version"])
    assert "not begun" in gone["status"]
    assert get(server, "/")[0].status == 200
    begin(workdir, row(3))
    back = live(server, gone["version"])
    assert "step 3" in back["status"] and "polyline" in back["content"]


def test_other_methods_are_not_known(server):
    assert get(server, "/", "POST")[0].status == 501


def test_many_may_ask_at_once(server):
    # One that says nothing keeps nobody waiting.
    with socket.create_connection(server.server_address):
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(live(server)["version"])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(found) == 8 and len({*found}) == 1


def test_a_port_in_use_is_said_and_without_one_another_is_taken(workdir, monkeypatch):
    with socket.socket() as taken:
        taken.bind((ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be used.*--port"):
            Server(workdir, port)
        monkeypatch.setattr("distill.report.live.PORT", port)
        server = Server(workdir)
        assert server.server_address[1] != port
        server.server_close()
