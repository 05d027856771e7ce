from __future__ import annotations

import re
from html.parser import HTMLParser

from deepspeaker.report import ReportData, results_page
from deepspeaker.results import Results

EMPTY_ELEMENTS = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Collect the contents and references of a page, and check that its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.references: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.shown = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "xlink:href", "srcset", "action", "data")
        self.references += [value or "" for name, value in attrs if name in names]
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY_ELEMENTS:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.shown += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] = (self.open[-1], self.headings[-1][1] + data)


def test_the_page_holds_all_tables(results: Results, report_data: ReportData) -> None:
    page = Page(results_page(results, report_data))
    costs = ["0.250 [0.200, 0.800]", "0.333 [0.200, 0.800]", "0.750 [0.200, 0.800]"]
    head = ["system", "back end", "EER % [95 %]", "minDCF(0.05)", "(0.01)", "(0.001)", "minCllr"]
    assert page.rows[:3] == [
        head,
        ["untrained", "cosine", "34.10 [17.05, 51.15]", *costs, "0.125"],
        ["triplet", "cosine", "4.22 [2.11, 6.33]", *costs, "0.125"],
    ]
    assert page.rows[3] == [*head, "ACC %"]
    for row in (
        ["triplet", "untrained", "trials_all", "−29.88 [−35.00, −25.00]", "< 0.001"],
        ["triplet", "cosine", "average", "4.12 [2.06, 6.18]", "3.12 [1.56, 4.68]"],
        ["gender", "f", "900", "3,000", "15", "17.05 [8.53, 34.10]", "2.11 [1.05, 4.22]"],
        ["gender", "f, m", "0", "20,000", "30", "–", "–"],
        ["trials_all", "1,980", "62,640", "30", "–", "a" * 64],
    ):
        assert row in page.rows
    for shown in ("4.22 %", "1,234,567", "./run.sh --seed 7", "margin: 0.1", "trials_1p99 has only 30 speakers"):
        assert shown in page.shown


def test_the_table_of_contents_links_to_the_sections_in_order(results: Results, report_data: ReportData) -> None:
    text = results_page(results, report_data)
    page = Page(text)
    sections = [name for level, name in page.headings if level == "h2"]
    assert page.headings[0] == ("h1", "Speaker verification on demo")
    assert sections == [
        *("Results", "DET curves", "Scores", "Enrolment", "Conditions", "Thresholds", "Embeddings", "Training"),
        *("Trials", "Reproduce", "Configuration"),
    ]
    links = [reference[1:] for reference in page.references if re.fullmatch("#[a-z]+", reference)]
    assert links == re.findall(r'<h2 id="([a-z]+)"', text)


def test_the_page_is_self_contained(results: Results, report_data: ReportData) -> None:
    text = results_page(results, report_data)
    assert all(reference.startswith("#") for reference in Page(text).references)
    assert "default-src 'none'" in text
    without_names = text.replace("http://www.w3.org/", "")
    assert not re.search(r"https?:|url\((?!#)|@import|<iframe|<link|<img|fetch\(|XMLHttp", without_names)


def test_the_page_is_reproducible_and_its_ids_are_unique(results: Results, report_data: ReportData) -> None:
    text = results_page(results, report_data)
    assert text == results_page(results, report_data)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 20
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_only_synthetic_speech_is_labelled(results: Results, report_data: ReportData) -> None:
    synthetic = Page(results_page(results, report_data)).shown
    assert "synthetic speech" in synthetic and "comes from a synthesiser" in synthetic
    real = Page(results_page(results.model_copy(update={"synthetic": False}), report_data)).shown
    assert "synthe" not in real


def test_speakers_from_the_training_data_cause_a_warning(results: Results) -> None:
    systems = [system.model_copy(update={"shared_speakers": 3}) for system in results.systems]
    text = results_page(results.model_copy(update={"systems": systems}), ReportData())
    assert '<p class="warning">Warning: of the 30 speakers of trials_all, 3 were in the training data' in text
    assert "unseen" not in text


def test_names_are_escaped(results: Results, report_data: ReportData) -> None:
    nasty = "<script>alert('&')</script>"
    plain = results_page(results, report_data).count("<script")
    systems = [system.model_copy(update={"backend": nasty}) for system in results.systems]
    changed = results.model_copy(update={"corpus": nasty, "config": {"model": {"name": nasty}}, "systems": systems})
    content = report_data.maps["triplet"]
    renamed = type(content)([nasty] * 42, [nasty] * 42, content.positions, content.nearest, content.cosine)
    curves = {nasty: {nasty: report_data.curves["Systems, cosine"]["triplet"]}}
    histories = {nasty: report_data.histories["softmax"]}
    densities = {nasty: report_data.densities["triplet"]}
    text = results_page(changed, ReportData(curves, densities, {nasty: renamed}, histories, [nasty]))
    assert text.count("<script") == plain == 1
    assert Page(text).shown.count("<script>alert") > 50


def test_the_page_without_plots(results: Results) -> None:
    page = Page(results_page(results, ReportData()))
    sections = [name for level, name in page.headings if level == "h2"]
    assert sections == ["Results", "Enrolment", "Conditions", "Thresholds", "Trials", "Configuration"]
