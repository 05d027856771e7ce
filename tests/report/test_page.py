from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deepspeaker.report import Results, plot_training, results_page

EMPTY_ELEMENTS = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Collects what a page shows and points to; raises where its elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.references: list[str] = []
        self.shown = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    rows = [{"epoch": str(e), "step": str(e), "learning_rate": "0.1", "loss": str(1 / e)} for e in (1, 2, 3)]
    plot_training(rows, tmp_path / "training.png", "a training")
    (tmp_path / "det.png").write_bytes(b"\x89PNG any bytes at all <>&\"'")
    return {"det": tmp_path / "det.png", "softmax": tmp_path / "training.png"}


def test_the_table_holds_the_figures(results: Results, pictures: dict[str, Path]) -> None:
    page = Page(results_page(results, pictures))
    costs = ["0.250", "0.333", "0.750", "", "0.125"]
    priors = [f"minDCF({p})" for p in (0.05, 0.01, 0.001)]
    assert page.rows == [
        ["system", "back end", "trials", "EER %", "95 %", *priors, "Cllr", "minCllr", "rank-1 %"],
        ["untrained", "cosine", "trials_all", "34.10", "17.05 \u2013\n51.15", *costs, ""],
        ["triplet", "cosine", "trials_all", "4.22", "2.11 \u2013\n6.33", *costs, ""],
        ["triplet", "cosine", "trials_1p99", "4.00", "2.00 \u2013\n6.00", *costs, "93.3"],
    ]
    for shown in ("1,234,567 parameters", "seed\n7", "1,980 target and 62,640 non-target", "a" * 64, "margin: 0.1"):
        assert shown in page.shown


def test_the_page_needs_nothing_from_outside(results: Results, pictures: dict[str, Path]) -> None:
    text = results_page(results, pictures)
    page = Page(text)
    assert len(page.references) == 2
    for reference, path in zip(page.references, pictures.values(), strict=True):
        kind, _, data = reference.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == path.read_bytes()
    without_pictures = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe", without_pictures)


def test_synthetic_speech_is_called_so_and_real_is_not(results: Results, pictures: dict[str, Path]) -> None:
    synthetic = Page(results_page(results, pictures)).shown
    assert "Deep Speaker on demo, synthetic speech" in synthetic
    assert "The speech was made by a synthesiser" in synthetic
    real = Page(results_page(results.model_copy(update={"synthetic": False}), pictures)).shown
    assert "synthe" not in real


def test_names_from_outside_cannot_become_markup(results: Results, pictures: dict[str, Path]) -> None:
    nasty = "<script>alert('&')</script>"
    changed = results.model_copy(update={"corpus": nasty, "config": {"model": {"name": nasty}}})
    text = results_page(changed, pictures)
    assert "<script" not in text
    assert Page(text).shown.count("<script>alert") == 3


def test_without_pictures_the_page_is_whole(results: Results) -> None:
    page = Page(results_page(results, {}))
    assert page.references == []
    assert "Detection error trade-off" not in page.shown
