"""Run JavaScript on a page in a real browser, without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in _NAMES if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

_FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" style="border:0;width:%(width)dpx;height:844px"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("frame");
frame.onload = function () {
  const window = frame.contentWindow, document = frame.contentDocument;
  let found;
  try { found = (function () { %(probe)s })(); } catch (error) { found = {error: String(error)}; }
  self.document.getElementById("found").textContent = JSON.stringify(found);
};
frame.srcdoc = %(page)s;
</script>"""


def probed(page: str, width: int, probe: str, folder: Path) -> Any:
    """Return the result of the JavaScript ``probe`` (a function body) on a page ``width`` pixels wide.

    The page is in a frame, because a browser window cannot be as narrow as a phone.
    """
    assert BROWSER is not None
    outer = folder / f"frame{width}.html"
    text = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    outer.write_text(_FRAME % {"width": width, "probe": probe, "page": text}, encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",  # as on a phone
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={max(width, 600)},900",
            "--virtual-time-budget=5000",
            "--dump-dom",
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found is not None and found[1], done.stderr[-2000:]
    content = json.loads(unescape(found[1]))
    assert not (isinstance(content, dict) and "error" in content), content
    return content
