"""Tables as spreadsheets write them: wide, in percent, with decimal commas, with a metric of another name."""

from pathlib import Path
from typing import Any

import pytest

from saeft_ray.errors import UserError
from saeft_ray.report import findings
from saeft_ray.report.__main__ import main
from saeft_ray.report.from_table import read_table

WIDE = "Method;Seed;ID;V2;Sketch"


def read(folder: Path, text: str, **options: Any) -> tuple[dict[tuple[str, int | None, str], float | None], Any]:
    path = folder / "runs.csv"
    path.write_bytes(text.encode())
    rows, record = read_table(path, "ft", ["ID"] if ";ID" in text else [], 0.05, **options)
    return {(r["method"], r["seed"], r["dataset"]): r["value"] for r in rows.to_pylist()}, record


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_wide_table_with_decimal_commas_is_its_long_form(tmp_path: Path, delimiter: str) -> None:
    text = f"{WIDE}\nft;0;0,91;0,5;,25\nft;1,0;0,92;;0\nzero shot;;1;3e-1;0,125\n"
    if delimiter == "\t":
        text = text.replace(";ID", "\tID")
    path = tmp_path / "runs.csv"
    path.write_text(text.replace(";", delimiter))
    rows, record = read_table(path, "ft", ["ID"], 0.05)
    got = {(r["method"], r["seed"], r["dataset"]): r["value"] for r in rows.to_pylist()}
    assert got == {
        ("ft", 0, "ID"): 0.91, ("ft", 0, "V2"): 0.5, ("ft", 0, "Sketch"): 0.25,
        ("ft", 1, "ID"): 0.92, ("ft", 1, "V2"): None, ("ft", 1, "Sketch"): 0.0,
        ("zero shot", None, "ID"): 1.0, ("zero shot", None, "V2"): 0.3, ("zero shot", None, "Sketch"): 0.125,
    }  # fmt: skip
    assert record["data"]["roles"] == {"ID": "id", "V2": "ood", "Sketch": "ood"}
    assert "a column is a test set and numbers have decimal commas" in record["source"]


def test_percentages_are_the_same_numbers_as_their_fractions(tmp_path: Path) -> None:
    fractions, _ = read(tmp_path, f"{WIDE}\nft;0;0.731;0.007;1\nsae;0;0.29;0.57;0\n")
    for text, said in (
        (f"{WIDE}\nft;0;73,1%;0,7 %;100%\nsae;0;29%;57%;0%\n", False),
        (f"{WIDE}\nft;0;73.1;0.7%;100\nsae;0;29;57;0\n", True),
    ):
        got, record = read(tmp_path, text, percent=said)
        assert got == fractions
        assert "accuracies are percents" in record["source"]


def test_a_metric_of_another_name_is_said_instead_of_accuracy(tmp_path: Path) -> None:
    body = [f"m{m},{s},{d},0.9,{0.5 + m / 20 + s / 100 + m * s / 900:.4f}"
            for m in range(3) for s in range(5) for d in ("val", "R")]  # fmt: skip
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["method,seed,dataset,accuracy,Macro  F1", *body]))
    assert main(["--table", str(path), "--baseline", "m0", "--id", "val", "--metric", "macro F1", "--quiet"]) == 0
    page = (tmp_path / "runs-report" / "report.html").read_text()
    text = (tmp_path / "runs-report" / "report.md").read_text()
    assert "Macro F1 in %" in text
    assert "percentage points (pp) of macro F1" in text
    assert "The table has columns that no number here rests on: accuracy." in text
    for words in (text, page):
        assert "accuracy" not in words.replace("rests on: accuracy", "").lower()
    with pytest.raises(UserError, match=r"no column 'recall', but method, .*--metric says which column"):
        read_table(path, "m0", [], 0.05, metric="recall")
    with pytest.raises(UserError, match="--metric 'seed': give the title of the column"):
        read_table(path, "m0", [], 0.05, metric="seed")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        # Neither long nor wide, or both.
        ("method,seed,accuracy\nft,0,0.5\n", {}, "no column 'dataset'"),
        ("method,seed,V2,f1\nft,0,0.5,0.5\n", {"metric": "f1"}, "no column 'dataset'"),
        ("method,seed,set,acc\nft,0,V2,0.5\n", {}, "line 2, column set: 'V2' is not a number"),
        ("method,seed\nft,0\n", {}, "line 1: has no numbers; give the columns dataset and accuracy"),
        ("method,seed,V2,Role\nft,0,0.5,ood\n", {}, "line 1, column 4: role stands in a table that has no column"),
        (",method,seed,V2\n0,ft,0,0.5\n", {}, "line 1, column 1: has no title, but '0' stands in line 2"),
        ("method,seed,V2,A\nft,0,0.5,\nft,1,0.5,\n", {}, "line 1, column 4: 'A' has no number in any line"),
        ("method,seed,V2,v2\nft,0,0.5,0.5\n", {}, "column 4: the test set 'v2' differs from 'V2' only in case"),
        ("method,seed,V2,V2\nft,0,0.5,0.5\n", {}, "column 4: the test set 'V2' is there twice"),
        ("method,seed,V2\nft,0,0.5\n\nft,0,0.6\n", {}, "line 4: method ft, seed 0, dataset V2 is already in line 2"),
        ("method,seed,V2\nft,0,0.5,0.6\n", {}, "line 2: 4 cells, but the header has 3"),
        ("method,seed,V2,A\nft,0,0.5,high\n", {}, "line 2, column A: 'high' is not a number"),
        # Commas.
        ('method,seed,V2\nft,0,"0,5"\n', {}, "line 2, column V2: '0,5' is not a number; it has a decimal comma"),
        ("method;seed;V2\nft;0;0,5\nft;1;0.6\n", {}, "line 3, column V2: 0.6 has a decimal point, and 0,5 in line 2"),
        ("method;seed;V2\nft;0;1.000,5\n", {}, "line 2, column V2: '1.000,5' is not a number"),
        ("method;seed;V2\nft;1.000;0,5\n", {}, "line 2, column seed: '1.000' is not a whole number"),
        ("method;seed;V2\nft;1,000;0.5\n", {}, "line 2, column seed: '1,000' is not a whole number"),
        # Percentages.
        ("method,seed,V2\nft,0,72.3\nft,1,70\n", {}, "line 2, column V2: 72.3 .* or say --percent if all are"),
        ("method,seed,V2,A\nft,0,72.3,0.4\n", {}, "line 2, column V2: 72.3 .*must not be mixed"),
        ("method,seed,V2,A\nft,0,72.3,0.4\n", {"percent": True}, "line 2, column A: 0.4 among percentages could be"),
        ("method,seed,V2\nft,0,0.723\n", {"percent": True}, "0.723 among percentages could be .*leave out --percent"),
        ("method,seed,V2\nft,0,72%\nft,1,71\n", {}, "line 3, column V2: 71 has no %, and 72% in line 2 has one"),
        ("method,seed,V2\nft,0,101%\n", {}, r"line 2, column V2: 101% is not a percentage in \[0, 100\]"),
        ("method,seed,V2\nft,0,-3\n", {"percent": True}, r"line 2, column V2: -3 is not a percentage"),
        ("method,seed,V2\nft,0,%\nft,1,5%%\n", {}, "line 3, column V2: '5%%' is not a number"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, text, **options)


def test_a_wide_percent_table_reports_what_its_long_fractions_do(tmp_path: Path) -> None:
    sets, long, wide = ("val", "R", "Sketch"), ["method,seed,dataset,accuracy"], ["METHOD\tSEED\tval\tR\tSketch"]
    for m in range(3):
        for s in range(5):
            values = [0.5 + m / 20 + (7 * s + m + len(d)) % 5 / 100 for d in sets]
            long += [f"m{m},{s},{d},{v:.4f}" for d, v in zip(sets, values, strict=True)]
            wide.append("\t".join([f"m{m}", str(s), *(f"{100 * v:.2f}".replace(".", ",") for v in values)]))
    (tmp_path / "long.csv").write_text("\n".join(long))
    (tmp_path / "wide.csv").write_text("\n".join(wide))
    one = findings(*read_table(tmp_path / "long.csv", "m0", ["val"], 0.05))
    other = findings(*read_table(tmp_path / "wide.csv", "m0", ["val"], 0.05, percent=True))
    assert (one.primary, one.id, one.shifts, one.methods) == (other.primary, other.id, other.shifts, other.methods)
