"""Pages in a real browser, where there is one; with axe-core where DISTILL_AXE names its file.

DISTILL_AXE=node_modules/axe-core/axe.min.js pytest -m slow tests/report/test_in_browser.py
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from run_pages import some_examples, write_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]

PROBE = """
<script>
const found = { errors: [], alerts: 0 };
const tell = () => {
  parent.document.querySelector("#found").textContent = JSON.stringify(found);
};
addEventListener("error", (event) => found.errors.push(event.message));
addEventListener("unhandledrejection", (event) => {
  found.errors.push(String(event.reason));
  tell();
});
window.alert = () => { found.alerts += 1; };
</script>
"""
ASK = """
<script>
addEventListener("load", async () => {
  const root = document.documentElement;
  found.width = [root.scrollWidth, innerWidth];
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  found.opened = root.scrollWidth;
  found.said = [...document.querySelectorAll("figure.chart")].map((figure) => {
    const press = (key) => figure.querySelector(".plot")
      .dispatchEvent(new KeyboardEvent("keydown", { key }));
    press("End");
    const last = figure.querySelector(".readout").textContent;
    press("Escape");
    return [last, figure.querySelectorAll(".mark").length];
  });
  const toggle = document.querySelector(".toggle");
  toggle.click();
  found.log = getComputedStyle(toggle.parentElement.querySelector(".linear-scale")).display;
  if (window.axe) {
    const result = await axe.run(document, { resultTypes: ["violations"] });
    found.violations = result.violations.map((one) => [one.id, one.nodes[0].html]);
  }
  tell();
});
</script>
"""
# A window is never as narrow as a phone; a frame is. Its document is written inside the page: one
# with an address has a process of its own, for which the virtual time of the page does not wait.
FRAME = """<pre id="found"></pre>
<iframe srcdoc="{}" width="{}" height="844" style="border: 0"></iframe>
"""


def dom(page: Path, *flags: str) -> str:
    """The document when its scripts have run."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *flags]
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def page(teacher_workdir, tmp_path_factory):
    """Of a run whose classes and files have hostile names, and whose speed grew a hundredfold.

    A speed as it was measured would decide with its spread whether a scale of powers is offered.
    """
    path = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(teacher_workdir, path, ignore=shutil.ignore_patterns("checkpoints"))
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    measured = [one for one in metrics if "train/images_per_second" in one]
    for one, speed in zip(measured, np.geomspace(1, 100, len(measured)), strict=True):
        one["train/images_per_second"] = speed
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in metrics))
    return write_page(path, some_examples(200))


def test_the_policy_lets_the_pages_own_script_run(page):
    assert 'role="group"' in dom(page)
    forbidden = page.with_name("changed.html")
    content = page.read_text()
    forbidden.write_text(content.replace("tabIndex = 0", "tabIndex = 1"))
    assert 'role="group"' not in dom(forbidden)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_is_read_by_keys_and_runs_nothing_foreign(page, width, dark):
    content = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    if dark:
        content = content.replace("(prefers-color-scheme: dark)", "all")
        content = content.replace("(prefers-color-scheme: light)", "not all")
    axe = os.environ.get("DISTILL_AXE")
    library = f"<script>{Path(axe).read_text()}</script>" if axe else ""
    content = content.replace("<head>", f"<head>{PROBE}{library}")
    frame = page.with_name("frame.html")
    probed = content.replace("</body>", f"{ASK}</body>")
    frame.write_text(FRAME.format(html.escape(probed), width))
    told = dom(frame, "--window-size=1400,900")
    found = json.loads(html.unescape(re.findall(r'<pre id="found">(.*?)</pre>', told, re.S)[0]))
    assert (found["errors"], found["alerts"]) == ([], 0)
    assert found["width"][1] == width
    assert found["width"][0] <= found["width"][1] and found["opened"] <= found["width"][1]
    assert all(said and not marks for said, marks in found["said"])
    assert any(said.startswith("step 10 · training ") for said, _ in found["said"])
    assert found["log"] == "none"
    assert found.get("violations", []) == []
