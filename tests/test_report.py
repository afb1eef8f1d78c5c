"""The report's files: the same bytes every time, nothing unescaped, no number that is none, and a page that renders."""

import dataclasses
import html
import json
import os
import random
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings, write_report
from saeft_ray.report.__main__ import main
from saeft_ray.report.render import sections
from saeft_ray.report.render.exports import _latex

from report_rows import ROLES, TYPES, put_json, put_rows, record, rows

pytestmark = pytest.mark.usefixtures("no_figures_for_papers")
FILES = {"report.html", "report.md", "report.json", "results.csv", "results.tex", "differences.tex"}
PLOTS = {"forest.svg", "slopes.svg", "plane.svg", "shifts.svg", "search.svg"}
DRAWN = {f"{Path(name).stem}.{form}" for name in PLOTS for form in ("pdf", "png")}
FORBIDDEN = ("trend", "marginally significant", "no difference", "comparable", "state of the art")
VOID = {"meta", "link", "br", "img", "input", "hr"}


def read(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(folder.iterdir())
        if path.suffix not in (".pdf", ".png")
    }


def made(tmp_path: Path, given_rows: list[Row], name: str = "out", **rules: Any) -> dict[str, str]:
    write_report(table(given_rows), record(**rules), tmp_path / name)
    return read(tmp_path / name)


class Balance(HTMLParser):
    """Collects tags, and fails on one that closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_check_25_same_rows_same_bytes_in_any_order(tmp_path: Path) -> None:
    given_rows = rows(methods=["zero_shot", "ft", "sae_ft"])
    first = made(tmp_path, given_rows, "first")
    assert set(first) == FILES | PLOTS
    assert made(tmp_path, given_rows, "second") == first
    random.Random(1).shuffle(given_rows)
    assert made(tmp_path, given_rows, "third") == first
    # An older report in the same folder is replaced.
    assert made(tmp_path, given_rows, "first") == first


@cache
def edge_cases() -> dict[str, list[Row]]:
    def few(**given: Any) -> list[Row]:
        # Panels cost time, and the search is the same in every case.
        return rows(methods=["zero_shot", "ft", "mse", "sae_ft", "random_dictionary"], search=False, **given)

    equal = few(constant=True, bits=False)
    return {
        "one seed": few(seeds=1),
        "two seeds": few(seeds=2),
        "one failed seed": few(failed=[("sae_ft", 1001)]),
        "all failed": few(failed=[("sae_ft", s) for s in range(1000, 1005)]),
        "all equal": equal,
        "all equal, sizes unknown": [dataclasses.replace(row, n=None) for row in equal],
        "zero-shot only": rows(methods=["zero_shot"]),
        "baseline only": rows(methods=["ft"]),
        "baseline failed": few(failed=[("ft", s) for s in range(1000, 1005)]),
        "unequal seeds": [row for row in few() if row.method != "mse" or row.seed in (1000, 1001, 1002)],
        "another example order": [
            dataclasses.replace(row, examples="other") if row.method == "mse" else row for row in few()
        ],
        "accuracies of 0 and 1": [
            dataclasses.replace(row, value=float(row.method == "mse"), correct=None) for row in few()
        ],
        "search only": [row for row in rows() if row.phase != "confirm"],
        "nothing": [],
        "one shift": [row for row in few() if row.role != "ood" or row.dataset == "A"],
        "id only": [row for row in few() if row.role != "ood"],
        "not numbers": [
            dataclasses.replace(row, value=float("nan")) if row.dataset == "C" and row.seed in (1000, 1003) else row
            for row in few()
        ],
    }


@pytest.mark.parametrize("case", edge_cases())
def test_check_23_edge_cases_render_without_a_number_that_is_none(tmp_path: Path, case: str) -> None:
    lines = {name: (0.9, -0.5) for name, role in ROLES.items() if role == "ood"}
    for name, text in made(tmp_path, edge_cases()[case], margin=0.01, lines=lines).items():
        # What a trial said of its own failure is quoted, and may contain the word.
        shown = text.replace("loss is nan at step 12", "").replace("accuracy on C is nan", "")
        if name == "report.html":
            shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", shown, flags=re.DOTALL)
        assert not re.search(r"(?<!\w)[-−+]?(nan|inf|infinity)(?!\w)", shown, re.IGNORECASE), name
        assert not re.search(r"\bNone\b", shown), name
        if name.endswith(".svg"):
            ElementTree.fromstring(text)
    json.loads((tmp_path / "out" / "report.json").read_text())


def test_every_plot_is_a_pdf_and_a_png_too_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from report_rows import record, rows; "
        "from saeft_ray.records.rows import table; from saeft_ray.report import write_report; "
        "write_report(table(rows(methods=['zero_shot', 'ft', 'sae_ft'], seeds=3)), record(), Path(sys.argv[1]))"
    )
    folders = [tmp_path / seed for seed in ("1", "2")]
    for folder in folders:
        # Sets have another order in each process, which must not reach a file.
        place = {**os.environ, "PYTHONHASHSEED": folder.name, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", program, str(folder)], env=place, check=True, capture_output=True)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert set(first) == FILES | PLOTS | DRAWN
    assert [name for name in first if first[name] != second[name]] == []
    for name in DRAWN:
        if name.endswith(".png"):
            with Image.open(folders[0] / name) as image:
                assert image.width > 1000
                assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255), "on white, not see-through"
                assert len(image.getcolors(1 << 24)) > 20, "something is drawn"
        else:
            assert first[name].startswith(b"%PDF-")
            assert first[name].rstrip().endswith(b"%%EOF")
            assert b"CreationDate" not in first[name]


def test_differences_are_a_latex_table_with_interval_and_verdict(tmp_path: Path) -> None:
    text = made(tmp_path, rows(), margin=0.003)["differences.tex"]
    report = findings(table(rows()), record(margin=0.003))
    body = [line for line in text.splitlines() if " & " in line]
    assert len(body) == 1 + len(report.primary) + len(report.controls)
    assert all(line.count(" & ") == 6 and line.endswith(r" \\") for line in body)
    for line, c in zip(body[1:], (*report.primary, *report.controls), strict=True):
        method, against, n, mean, interval, _, verdict = line.removesuffix(r" \\").split(" & ")
        assert (method, against) == (c.method.replace("_", r"\_"), c.against.replace("_", r"\_"))
        assert c.paired is not None
        assert int(n) == c.paired.n
        assert float(mean.strip("$")) == pytest.approx(100 * c.paired.mean, abs=0.006)
        low, high = map(float, interval.strip("$[]").split(", "))
        assert c.paired.lo is not None
        assert (low, high) == pytest.approx((100 * c.paired.lo, 100 * c.paired.hi), abs=0.006)
        assert verdict == c.verdict
    assert "−" not in text, "a minus sign that LaTeX does not know"


@pytest.mark.parametrize("name", ["a_b%c", "[x]", "*", "~^\\{$"])
def test_any_name_of_a_method_leaves_latex_whole(tmp_path: Path, name: str) -> None:
    given = [dataclasses.replace(row, method=name if row.method == "mse" else row.method) for row in rows()]
    write_report(table(given), json.loads(json.dumps(record()).replace('"mse"', json.dumps(name))), tmp_path)
    for file in ("results.tex", "differences.tex"):
        (line,) = [line for line in (tmp_path / file).read_text().splitlines() if line.startswith(_latex(name))]
        assert not line.startswith(("[", "*")), "LaTeX would read it as a part of the row before"
        bare = re.sub(r"\\(?:text\w+\{\}|[&%$#_{}])", "", line.split(" & ")[0])
        assert not re.search(r"[&%$#_~^\\]", bare)


def test_page_is_balanced_self_contained_and_has_alternatives(tmp_path: Path) -> None:
    page = made(tmp_path, rows())["report.html"]
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    for tag, attributes in parser.seen:
        assert tag not in {"link", "iframe"}
        assert not (attributes.get("src") or "").startswith("http")
        assert not (attributes.get("href") or "").startswith("http")
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert page.count("<script") == 1
    assert page.count("<svg ") == 5
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "@import" not in page
    assert "url(http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_page_says_what_it_must(tmp_path: Path) -> None:
    files = made(tmp_path, rows(seeds=6, failed=[("mse", 1001)]), margin=0.003)
    for name in ("report.html", "report.md"):
        text = files[name].replace("\\_", "_")
        for wanted in (
            "How to read this", "better than ft", "Is the SAE load-bearing?", "not evidence of equality", "Holm",
            "8 configurations tried in 8 trials", "1 / 6", "loss is nan at step 12", "0123456789abcdef",
        ):  # fmt: skip
            assert wanted in text, (name, wanted)
        for word in FORBIDDEN:
            assert word not in text.lower()
    assert r"\mathbf" in files["results.tex"]
    assert "zero\\_shot" in files["results.tex"]
    numbers = json.loads(files["report.json"])
    assert numbers["primary"][0]["paired"]["n"] == 6
    assert files["results.csv"].startswith("kind,method,against,endpoint")


def test_names_from_the_sweep_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script>$x_1^2$ & "q"'
    given_rows = [
        dataclasses.replace(
            row,
            method=evil if row.method == "mse" else row.method,
            dataset="<b>Sketch</b>" if row.dataset == "Sketch" else row.dataset,
            error="<img src=x onerror=alert(1)>" if row.status == "failed" else row.error,
        )
        for row in rows(failed=[("mse", 1001)])
    ]
    own = record()
    own["name"] = "<script>alert(2)</script>"
    own["config"]["methods"] = {evil if name == "mse" else name: {"type": name} for name in TYPES}
    write_report(table(given_rows), own, tmp_path)
    files = read(tmp_path)
    page = files["report.html"]
    assert page.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>Sketch" not in page
    assert "<img" not in page
    assert "<script" not in files["report.md"]
    for name in PLOTS:
        ElementTree.fromstring(files[name])
        assert "<script" not in files[name]
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def store(folder: Path, given_rows: list[Row]) -> None:
    (folder / "trials" / "t0").mkdir(parents=True)
    put_rows(folder / "trials" / "t0" / "rows.parquet", given_rows)
    put_json(folder / "sweep.json", record())


def test_door_writes_into_the_sweep_or_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "sweep", rows(seeds=3))
    assert main([str(tmp_path / "sweep")]) == 0
    out = capsys.readouterr().out
    assert "better than ft" in out
    assert out.strip().endswith("sweep/report/report.html")
    assert main([f"file://{tmp_path}/sweep/", "--out", str(tmp_path / "elsewhere")]) == 0
    assert read(tmp_path / "elsewhere") == read(tmp_path / "sweep" / "report")


def test_door_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no sweep at" in capsys.readouterr().err
    store(tmp_path / "sweep", [*rows(seeds=1), rows(seeds=1)[0]])
    assert main([str(tmp_path / "sweep")]) == 2
    assert "two confirm rows" in capsys.readouterr().err


MEASURE = """<!doctype html><title>waiting</title>
<iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement
  document.title = [root.scrollWidth, root.clientWidth].join()
}})</script>"""


def test_page_renders_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = made(tmp_path, rows())["report.html"]
    # Its policy lets no other script in, so another page measures it, as wide as a telephone and as a desk's screen.
    for width in (360, 1200):
        (tmp_path / f"{width}.html").write_text(MEASURE.format(width=width, page=html.escape(page)))
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900",
    ]  # fmt: skip
    shown = {}
    for name in ("out/report.html", "360.html", "1200.html", "out/report.html#sort=0,3"):
        done = subprocess.run(
            [browser, *options, "--dump-dom", f"file://{tmp_path / name}"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr
        shown[name] = done.stdout
    assert shown["out/report.html"].count("<svg ") == 5
    # The columns' titles sort: the results by the first shift, best first.
    table_ = shown["out/report.html#sort=0,3"].split("<table")[1].split("</table>")[0]
    assert 'aria-sort="descending"' in table_
    column = [
        re.sub(r"<[^>]*>", "", row.split("<td")[3]).split(">")[-1]
        for row in table_.split("<tbody>")[1].split("<tr>")[1:]
    ]
    values = [float(re.search(r"\d+\.\d+", cell)[0]) for cell in column]  # type: ignore[index]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(TYPES)
    unsorted_ = shown["out/report.html"].split("<table")[1].split("</table>")[0]
    assert unsorted_.index("zero_shot") < unsorted_.index("sae_ft")
    for width in (360, 1200):
        found = re.search(r"<title>(\d+),(\d+)</title>", shown[f"{width}.html"])
        assert found
        content, window = map(int, found.groups())
        assert width - 20 <= window <= width
        assert content <= window, "the page must not scroll sideways"


ONE_MORE = """
from saeft_ray.report.render.blocks import Section, Text, table

ORDER = 55

def section(report):
    lines = [(method.name, "<b>") for method in report.methods]
    return Section(title="One more", blocks=(Text(words="Nothing else knows it."), table(("method", "mark"), lines)))
"""


def test_a_section_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one_more.py").write_text(ONE_MORE)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "folder")])
    files = made(tmp_path, rows(seeds=3, search=False))
    for name, heading in (("report.html", "<h2>{}</h2>"), ("report.md", "## {}\n")):
        text = files[name]
        assert "Nothing else knows it." in text
        assert "&lt;b" in text
        places = [text.index(heading.format(title)) for title in ("Results", "One more", "Single OOD sets")]
        assert places == sorted(places)


def with_diagnostic(given: list[Row]) -> list[Row]:
    """The rows, and for every trial with V2's a diagnostic set of 50 %."""
    more = [
        dataclasses.replace(r, dataset="ID0", role="diagnostic", value=0.5, n=None) for r in given if r.dataset == "V2"
    ]
    return [*given, *(dataclasses.replace(row, examples=None, correct=None) for row in more)]


def test_a_diagnostic_set_has_a_column_and_changes_no_number(tmp_path: Path) -> None:
    given = rows(methods=["zero_shot", "ft", "sae_ft"])
    declared = record()
    declared["data"] = {**declared["data"], "roles": {**ROLES, "ID0": "diagnostic"}}
    plain, shown = findings(table(given), record()), findings(table(with_diagnostic(given)), declared)
    assert shown.diagnostic_sets == ("ID0",)
    assert [cell.mean.mean for method in shown.methods for cell in method.diagnostic] == [0.5] * 3
    assert dataclasses.replace(shown.methods[1], diagnostic=()) == plain.methods[1]
    for part in ("id_sets", "ood_sets", "primary", "id", "shifts", "checkpoints", "front", "headline", "warnings"):
        assert getattr(shown, part) == getattr(plain, part), part
    write_report(table(with_diagnostic(given)), declared, tmp_path)
    said = read(tmp_path)
    assert "| mean OOD | ID0 |" in said["report.md"]
    assert "ID0: shown alone, in no mean and no verdict." in said["report.md"]
    assert said["results.csv"].count(",ID0,") == 3


def test_a_diagnostic_set_that_the_sweep_did_not_have_when_it_began_is_not_shown() -> None:
    given = rows(methods=["zero_shot", "ft", "sae_ft"])
    shown, plain = (findings(table(each), record()) for each in (with_diagnostic(given), given))
    assert dataclasses.replace(shown, provenance=plain.provenance) == plain  # which counts rows


def test_a_declared_diagnostic_set_without_rows_is_told() -> None:
    declared = record()
    declared["data"] = {**declared["data"], "roles": {**ROLES, "ID0": "diagnostic"}}
    (told,) = [w for w in findings(table(rows()), declared).warnings if w.rule == "missing test sets"]
    assert "ID0" in told.text
