"""The page in a browser, at the width of a desktop and of a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepspeaker.report import ReportData, results_page
from deepspeaker.results import Results
from tests.report.browser import needs_browser, probed

PROBE = r"""
const view = document.documentElement, tip = document.getElementById("tip");
const found = {overflow: view.scrollWidth - view.clientWidth, width: view.clientWidth};
found.requests = window.performance.getEntriesByType("resource").map(entry => entry.name);
found.cut = Array.from(document.querySelectorAll("body *"))
  .filter(one => !one.closest(".scroll, pre, svg, #tip") && one.getBoundingClientRect().right > view.clientWidth + 1)
  .map(one => one.outerHTML.slice(0, 80));
found.boxes = Array.from(document.querySelectorAll(".scroll"))
  .filter(box => box.scrollWidth > box.clientWidth + 1).length;
found.small = Array.from(document.querySelectorAll("svg text")).filter(text => text.textContent.trim())
  .map(text => text.getBoundingClientRect().height).reduce((a, b) => Math.min(a, b), 99);

function pointer(type, svg, x, y, kind) {
  svg.dispatchEvent(new window.PointerEvent(type, {clientX: x, clientY: y, bubbles: true, pointerType: kind}));
}
function shown() {
  const box = tip.getBoundingClientRect();
  return {text: tip.textContent, visible: window.getComputedStyle(tip).visibility === "visible",
          inside: box.left >= 0 && box.right <= view.clientWidth && box.top >= 0};
}
const maps = document.querySelectorAll("svg.map"), map = maps[maps.length - 1];
map.scrollIntoView();
const points = map.querySelectorAll(".tip"), last = points[points.length - 1];
const box = last.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
pointer("pointermove", map, x, y, "mouse");
found.hover = shown();
found.lit = map.querySelectorAll(".speaker.on").length;
found.dimmed = window.getComputedStyle(map.querySelector(".speaker:not(.on)")).opacity;
pointer("pointerleave", map, 0, 0, "mouse");
found.left = shown();
found.again = map.classList.contains("active");
pointer("pointerdown", map, x, y, "touch");
found.tapped = shown();
pointer("pointerdown", document.body, 0, 0, "touch");
found.closed = shown();
map.dispatchEvent(new window.KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
found.first = shown();
map.dispatchEvent(new window.KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}));
found.around = shown();
map.dispatchEvent(new window.KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
found.escaped = shown();
const det = document.querySelector("#det ~ .panels svg.hover");
const mark = det.querySelector(".tip").getBoundingClientRect();
pointer("pointermove", det, mark.left + mark.width / 2, mark.top + mark.height / 2, "mouse");
found.det = shown();
const select = document.getElementById("speaker");
select.value = "s3";
pointer("pointerleave", det, 0, 0, "mouse");
select.dispatchEvent(new window.Event("change"));
found.chosen = Array.from(document.querySelectorAll(".speaker.on")).map(group => group.dataset.speaker);

// Contrast as in WCAG 2, of every text outside the plots with its background.
function rgb(colour) { return colour.match(/[\d.]+/g).map(Number); }
function luminance(colour) {
  const [r, g, b] = rgb(colour).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(one) {
  for (; one; one = one.parentElement) {
    const colour = window.getComputedStyle(one).backgroundColor;
    if (rgb(colour)[3] !== 0) return colour;
  }
  return "rgb(255, 255, 255)";
}
found.contrast = 99;
for (const one of document.querySelectorAll("body *")) {
  if (one.closest("svg, script, style")) continue;
  if (!Array.from(one.childNodes).some(node => node.nodeType === 3 && node.data.trim())) continue;
  const [a, b] = [luminance(window.getComputedStyle(one).color), luminance(background(one))].sort((p, q) => q - p);
  found.contrast = Math.min(found.contrast, (a + 0.05) / (b + 0.05));
}
found.unnamed = Array.from(document.querySelectorAll("svg")).filter(
  svg => !svg.getAttribute("aria-label") && svg.getAttribute("aria-hidden") !== "true").length;
found.headless = Array.from(document.querySelectorAll("table")).filter(
  table => !table.caption || Array.from(table.querySelectorAll("th")).some(th => !th.scope)).length;
return found;
"""


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_responds_to_mouse_touch_and_keys(
    width: int, results: Results, report_data: ReportData, tmp_path: Path
) -> None:
    wide = results.systems[1].model_copy(
        update={"cllr": 83.95, "act_dcf": {"0.05": 0.6, "0.01": 0.6, "0.001": 0.9}, "backend": "mean-subtracted"}
    )
    widened = results.model_copy(update={"systems": [*results.systems, wide]})
    found: dict[str, Any] = probed(results_page(widened, report_data), width, PROBE, tmp_path)
    assert found["width"] == width
    assert found["overflow"] == 0 and found["cut"] == []
    assert found["requests"] == []
    if width == 390:
        assert found["boxes"] >= 3  # wide tables scroll in their own boxes
    assert found["small"] >= 8  # pixels
    last = "s6-41, speaker s6; nearest: s6-"
    for how in ("hover", "tapped", "around"):
        assert found[how]["text"].startswith(last) and found[how]["visible"] and found[how]["inside"], how
    assert found["first"]["text"].startswith("s0-00, speaker s0; nearest: ")
    assert found["lit"] == 1 and float(found["dimmed"]) < 0.5
    for how in ("left", "closed", "escaped"):
        assert not found[how]["visible"], how
    assert not found["again"]
    assert found["det"]["text"].startswith("untrained, EER: misses ") and found["det"]["visible"]
    assert found["chosen"] == ["s3", "s3"]
    assert found["contrast"] >= 4.5
    assert found["unnamed"] == 0 and found["headless"] == 0
