"""A page of a run that brings itself up to date, served to this machine alone.

The server answers on 127.0.0.1, and only who asks for it by a name of this machine: a page from
elsewhere whose name points here (DNS rebinding) is refused. It knows three addresses, and no part
of one becomes a path.
"""

import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from distill.errors import UserError
from distill.report import html
from distill.report.watched import content, runs_in, status, version, watched

ADDRESS = "127.0.0.1"
PORT = 8123
"""Where a port is free, and none is asked for."""

_NAMES = {"127.0.0.1", "localhost", "[::1]"}

_SCRIPT = r"""
"use strict";
(() => {
const main = document.querySelector("#content"), status = document.querySelector("#status");
const lost = document.querySelector("#lost");
let have = main.dataset.version, used = -Infinity;

function replace(news) {
  const all = (what) => [...main.querySelectorAll(what)];
  const open = new Set(all("details[data-key][open]").map((one) => one.dataset.key));
  const title = (button) => button.parentElement.querySelector("figcaption").textContent;
  const logs = new Set(all(".toggle[aria-pressed=true]").map(title));
  const caption = (plot) => plot.parentElement.querySelector("figcaption").textContent;
  const focused = all(".plot:focus").map(caption);
  const place = scrollY;
  main.innerHTML = news.content;
  for (const one of all("details[data-key]")) one.open = open.has(one.dataset.key);
  window.readOut(main);
  for (const one of all(".toggle")) if (logs.has(title(one))) one.click();
  const again = all(".plot").find((plot) => caption(plot) === focused[0]);
  if (again) again.focus({ preventScroll: true });
  scrollTo(scrollX, place);
  have = news.version;
}

async function look() {
  let pause = 2000;
  if (!document.hidden) {
    try {
      const answer = await fetch(`/live?have=${encodeURIComponent(have)}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      status.innerHTML = news.status;
      document.title = news.title;
      // Whoever reads a value keeps it for a while.
      if (news.version !== have && performance.now() - used > 4000) replace(news);
      lost.hidden = true;
    } catch {
      lost.hidden = false;
      pause = 5000;
    }
  }
  setTimeout(look, pause);
}
for (const what of ["pointermove", "keydown"]) {
  main.addEventListener(what, (event) => {
    if (event.target.closest(".plot")) used = performance.now();
  });
}
setTimeout(look, 2000);
document.addEventListener("visibilitychange", () => { lost.hidden = true; });
})();
"""


class Server(http.server.ThreadingHTTPServer):
    """Serves the page of a workdir.

    Args:
      workdir: of a run or of several students; it need not be there yet.
      port: None takes `PORT`, or another where that is in use; 0 takes any.

    Raises:
      UserError: if the port is in use.
    """

    daemon_threads = True

    def __init__(self, workdir: Path, port: int | None = None):
        self.workdir = workdir
        self._drawn: tuple[str, str] = "", ""
        self._drawing = threading.Lock()
        try:
            super().__init__((ADDRESS, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None:
                raise UserError(
                    f"port {port} cannot be used: {error.strerror}; give another --port, or none "
                    "to take a free one"
                ) from error
            super().__init__((ADDRESS, 0), _Handler)

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def drawn(self) -> tuple[str, str]:
        """The content of the page as it is now, and its version; drawn once for all who ask."""
        runs = runs_in(self.workdir)
        now = version(runs)
        with self._drawing:
            if self._drawn[0] != now:
                self._drawn = now, content({name: watched(path) for name, path in runs.items()})
            return self._drawn

    def page(self) -> str:
        """The whole page."""
        seen, inside = self.drawn()
        runs = {name: watched(path) for name, path in runs_in(self.workdir).items()}
        lost = "distill watch does not answer; what is shown is as it was"
        return html.page(
            self.workdir.name,
            f'<div id="status" class="lead">{status(runs)}</div>'
            f'<p id="lost" class="badge stopped" hidden>{lost}</p>'
            f'<div id="content" data-version="{seen}">{inside}</div>',
            about=f'<p class="muted">{html.text(str(self.workdir))}</p>',
            scripts=(_SCRIPT,),
            network=True,
        )

    def live(self, have: str) -> str:
        """What has changed, as JSON: the status, and the content unless it is of version `have`."""
        seen, inside = self.drawn()
        runs = {name: watched(path) for name, path in runs_in(self.workdir).items()}
        first = next(iter(runs.values()))
        share = f"{first.step * 100 // first.steps}% · " if first.steps else ""
        news = {
            "version": seen,
            "status": status(runs),
            "title": f"{share}{first.state} · {self.workdir.name}",
        }
        return json.dumps(news if have == seen else news | {"content": inside})

    def report(self, name: str) -> str | None:
        """The page of a run that is finished, by the run's name; None if there is none."""
        place = runs_in(self.workdir).get(name)
        if place is None:
            return None
        try:
            return (place / "report.html").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "distill", ""
    # Of a client that says nothing, in seconds.
    timeout = 30

    def do_GET(self) -> None:  # the name that `http.server` calls
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if name not in _NAMES:
            self._send(403, "text/plain", "This server answers to 127.0.0.1 and localhost.\n", body)
            return
        found = _found(self.server, self.path)
        if found is None:
            self._send(404, "text/plain", "There is no such page.\n", body)
        else:
            self._send(200, *found, body)

    def _send(self, code: int, kind: str, text: str, body: bool) -> None:
        data = text.encode("utf-8", "surrogateescape")
        self.send_response(code)
        for header, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Connection": "close",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def handle(self) -> None:
        """Answers, unless who asked is gone."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of requests."""


def _found(server: Server, target: str) -> tuple[str, str] | None:
    """The kind of what is at an address, and it; None of others."""
    address = urllib.parse.urlsplit(target)
    path = urllib.parse.unquote(address.path, errors="surrogateescape")
    if path == "/":
        return "text/html", server.page()
    if path == "/live":
        have = urllib.parse.parse_qs(address.query).get("have", [""])[0]
        return "application/json", server.live(have)
    if path.startswith("/report/"):
        report = server.report(path.removeprefix("/report/"))
        return None if report is None else ("text/html", report)
    return None


def serve(server: Server, say: Callable[[str], None]) -> None:
    """Serves until it is interrupted, which is how it ends."""
    say(f"{server.workdir} is shown at {server.url}; Ctrl-C ends it")
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        say("")
    finally:
        server.server_close()
