"""Reports of numbers that were made elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from saeft_ray import stats
from saeft_ray.errors import UserError
from saeft_ray.report import findings
from saeft_ray.report.__main__ import main
from saeft_ray.report.from_table import read_table

HEAD = "method,seed,dataset,accuracy"


def lines(methods: int = 3, seeds: int = 6) -> list[str]:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.01, seeds)
    return [
        f"m{m},{s},{d},{0.6 + 0.03 * m + shared[s] + rng.normal(0, 0.003):.4f}"
        for m in range(methods)
        for s in range(seeds)
        for d in ("val", "R", "A")
    ]


def written(folder: Path, body: list[str], head: str = HEAD) -> Path:
    path = folder / "runs.csv"
    path.write_text("\n".join([head, *body]) + "\n")
    return path


def test_a_table_gives_the_same_numbers_as_its_columns(tmp_path: Path) -> None:
    body = lines()
    rows, record = read_table(written(tmp_path, body), "m0", ["val"], 0.05)
    got = findings(rows, record)
    accuracy = {tuple(line.split(",")[:3]): float(line.split(",")[3]) for line in body}

    def mean(m: str) -> list[float]:
        return [(accuracy[m, str(s), "R"] + accuracy[m, str(s), "A"]) / 2 for s in range(6)]

    expected = stats.paired(mean("m1"), mean("m0"))
    c = next(c for c in got.primary if c.method == "m1")
    assert c.paired is not None
    assert (c.paired.mean, c.paired.p) == pytest.approx((expected.mean, expected.p))
    assert (got.id_sets, got.ood_sets) == (("val",), ("R", "A"))
    assert "unknown selection" in {w.rule for w in got.warnings}
    assert got.load_bearing == ()


def test_a_role_column_and_a_method_without_seed_and_a_failed_run(tmp_path: Path) -> None:
    body = [f"{line},{'id' if ',val,' in line else 'ood'}" for line in lines()]
    body += ["frozen,,val,0.5,id", "frozen,,R,0.4,ood", "frozen,,A,0.3,ood"]
    body = [line if not line.startswith("m1,2,R") else "m1,2,R,,ood" for line in body]
    got = findings(*read_table(written(tmp_path, body, f"{HEAD},role"), "m0", [], 0.05))
    assert got.id_sets == ("val",)
    m1 = next(c for c in got.primary if c.method == "m1")
    assert m1.dropped_seeds == (2,)
    assert "among runs that finish" in m1.sentence
    assert next(m for m in got.methods if m.name == "frozen").deterministic


def test_a_margin_pairs_and_lines_come_from_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = [line.replace("m1,", "twin,") for line in lines()]
    known = [line.split(",") for line in body if line.startswith("m0")]
    body += [f"same,{seed},{name},{float(value) + 0.001 * (-1) ** int(seed):.4f}" for _, seed, name, value in known]
    path = str(written(tmp_path, body))
    given = ["--table", path, "--baseline", "m0", "--id", "val"]
    assert main([*given, "--margin", "0.02", "--alpha", "0.1", "--compare", "m2,twin", "--line", "R=0.9,-0.5"]) == 0
    out = capsys.readouterr().out
    assert "equivalent to m0 within the margin: same" in out
    assert "whether it was fixed before the runs is not known" in out
    text = (tmp_path / "runs-report" / "report.md").read_text()
    assert "m2 is better than twin" in text
    assert "90 % CI" in text
    assert "## Effective robustness" in text
    for wrong, words in (
        (["--margin", "2"], "--margin is a fraction between 0 and 1: 0.003 is 0.3 percentage points"),
        (["--alpha", "5"], "--alpha lies between 0 and 0.5"),
    ):
        with pytest.raises(SystemExit):
            main([*given, *wrong])
        assert words in capsys.readouterr().err
    for wrong, words in (
        (["--compare", "m2"], "--compare m2: give two methods as one,other"),
        (["--compare", "m2,m7"], "compare names the method 'm7'"),
        (["--line", "R"], "--line R: give DATASET and two finite numbers"),
        (["--line", "val=1,0"], "lines names 'val', which is not an OOD set"),
    ):
        assert main([*given, *wrong]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["somewhere", "--margin", "0.01"])
    assert "--margin: only with --table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (["m0,0,R,72.3"], "line 2, column accuracy: 72.3 is not a fraction in \\[0, 1\\]; it looks like a percentage"),
        (["m0,0,R,-0.1"], "line 2, column accuracy: -0.1 is not a fraction"),
        (["m0,0,R,high"], "line 2, column accuracy: 'high' is not a number"),
        (["m0,x,R,0.5"], "line 2, column seed: 'x' is not a whole number"),
        ([",0,R,0.5"], "line 2: method is empty"),
        ([], "has no line below its header"),
        (
            ["m0,0,R,0.5", "m0,0,R,0.6"],
            "line 3: method m0, seed 0, dataset R is already in line 2 \\(accuracy 0.5, here 0.6\\)",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, body: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        findings(*read_table(written(tmp_path, body), "m0", [], 0.05))


def test_the_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, lines()))
    assert main(["--table", path]) == 2
    assert "--baseline is missing: which of m0, m1 and m2" in capsys.readouterr().err
    assert main(["--table", path, "--baseline", "m9"]) == 2
    assert "m9" in capsys.readouterr().err
    assert main(["--table", path, "--baseline", "m0", "--id", "Val"]) == 2
    assert "--id Val: no such dataset; the table has val, R and A" in capsys.readouterr().err
    assert main(["--table", path, "--baseline", "m0", "--id", "val"]) == 0
    out = capsys.readouterr().out
    assert "better than m0: m1 and m2" in out
    page = (tmp_path / "runs-report" / "report.html").read_text()
    assert "The numbers come from runs.csv" in page
    assert "fresh seeds" not in page.split("<h2>Provenance")[0].split("How to read")[1].split("</p>")[0]
    assert "Selection and budget" not in page
    first = {p.name: p.read_bytes() for p in (tmp_path / "runs-report").iterdir()}
    assert main(["--table", path, "--baseline", "m0", "--id", "val", "--out", str(tmp_path / "again")]) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == first
    with pytest.raises(SystemExit):
        main(["--table", path, "--watch"])
    with pytest.raises(SystemExit):
        main(["somewhere", "--baseline", "m0"])


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Shapes that are not the header's; lines are counted as an editor counts them.
        (f"{HEAD}\nm0,0,R,0,60\n", "line 2: 5 cells, but the header has 4"),
        (f"{HEAD}\nm0,0,R 0.73\n", "line 2: 3 cells, but the header has 4"),
        (f"\n# by hand\n\n{HEAD}\n\nm0,0,R,0.5\n\n# more\nm0,1,R,0.5,\n", "line 9: 5 cells"),
        (f'{HEAD},note\nm0,0,R,0.5,"two\nlines"\nm0,1,R,0.5\n', "line 4: 4 cells"),
        (f"{HEAD}\r\nm0,0,R,0.5\r\n\r\nm0,1,R\r\n", "line 4: 3 cells"),
        (f"{HEAD}\n#m0,0,R,0.5\n", "line 2: begins with # and has as many cells"),
        (f'{HEAD}\nm0,0,R,0.5\nm0,1,"R,0.5\n', "line 3: is not CSV"),
        ("method|seed|dataset|accuracy\nm0|0|R|0.5\n", r"line 1: needs .* but 'method\|seed\|dataset\|accuracy'"),
        ("Method;Seed;Set;Accuracy\nm0;0;R;0.5\n", "no column 'dataset', but 'Method', .* separated by a semicolon"),
        ("method,seed,dataset,accuracy,Seed\nm0,0,R,0.5,1\n", "line 1: 2 columns named seed"),
        (f'{HEAD},"a\nb"\nm0,0,R\n', r"line 3: 3 cells, but the header has 5 \(method, seed, dataset, accuracy, a b\)"),
        ("", "is empty; give a header with the columns method, seed, dataset, accuracy"),
        # Contradictions.
        (
            f"{HEAD},role\nm0,0,R,0.5,id\nm0,0,V,0.5,ood\nm0,1,R,0.5,ood\n",
            "line 4, column role: R is ood here and id in",
        ),
        (f"{HEAD},role\nm0,0,R,0.5,id\nm0,0,V,0.5,\n", "line 3, column role: V has no role"),
        (f"{HEAD}\nm0,,R,0.5\nm0,3,R,0.5\n", "line 3, column seed: method m0 has seed 3 here and no seed in line 2"),
        (f"{HEAD}\nm0,0,R,0.5\nm0,0.0,R,0.5\n", "line 3: method m0, seed 0, dataset R is already in line 2"),
        (f"{HEAD}\nm0,,R,0.5\nm0,,R,0.5\n", "line 3: method m0, without a seed, dataset R is already in line 2"),
        (f"{HEAD}\nm0,0,R,0.5\nm0,0,r,0.5\n", "line 3: dataset 'r' differs from 'R' in line 2 only in case"),
        (f"{HEAD}\nm 0,0,R,0.5\nm0,1,R,0.5\n", "line 3: method 'm0' differs from 'm 0' in line 2 only in blanks"),
        (f"{HEAD}\nm_0,0,R,0.5\nm-0,1,R,0.5\n", "only in the form of a dash"),
        (f"{HEAD}\nm0,0,{NFC},0.5\nm0,0,{NFD},0.5\n", "only in unicode form"),
        (f'{HEAD}\nm0,0,"R\n",0.5\nm0,0,"R\nS",0.5\n', r"line 4: dataset 'R\\nS' contains a line break"),
        # Numbers of spreadsheets.
        (f"{HEAD}\n\n\nm0,12345678901234567890,R,0.5\n", "line 4, column seed: '12345678901234567890' is too large"),
        (f"{HEAD}\nm0,{'9' * 5000},R,0.5\n", "is too large; allowed: 0 to 9223372036854775807"),
        (f"{HEAD}\nm0,9007199254740993.0,R,0.5\n", "is a rounded number"),
        (f"{HEAD}\nm0,-1,R,0.5\n", "line 2, column seed: '-1' is negative; allowed: 0 to"),
        (f"{HEAD}\nm0,1e3,R,0.5\n", "'1e3' is not a whole number"),
        (f"{HEAD}\nm0,nan,R,0.5\n", "'nan' is not a whole number"),
        (f"{HEAD}\nm0,1_0,R,0.5\n", "'1_0' is not a whole number"),
        (f"{HEAD}\nm0,0,R,104\n", "column accuracy: 104 is not a fraction"),
        (f"{HEAD}\nm0,0,R,inf\n", "'inf' is not a number"),
        (f"{HEAD}\nm0,0,R,0.3%\nm0,1,R,0.3\n", "line 3, column accuracy: 0.3 has no %, and 0.3% in line 2 has one"),
        (f"{HEAD}\nm0,0,R,1e\u22123\n", "its minus is a typographic one: write 1e-3"),
        (f'{HEAD}\nm0,0,R,"0,73"\n', "line 2, column accuracy: '0,73' is not a number; it has a decimal comma"),
        (f"{HEAD}\nm0,0,R,0.5\nm0,1,R,72\nm0,2,R,0.6\n", "line 3, .*1 of 3 numbers are above 1: fractions and perc"),
    ],
)
def test_no_line_is_misread_or_passed_over(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(text.encode())
    with pytest.raises(UserError, match=words):
        read_table(path, "m0", [], 0.05)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_spreadsheets_and_pandas_write_it(tmp_path: Path, delimiter: str) -> None:
    text = (
        '# made by hand\r\n"Method","SEED",dataset,Accuracy,Role,note,\r\nm0,0.0,R,5e-1,,"a\r\nb",\r\n\r\nm0,1.0,R,NaN,'
        "ood,,\r\nzero shot,,R,.25,OOD,,\r\n,,,,,,\r\n"
    )
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(",", delimiter).encode())
    rows, record = read_table(path, "m0", [], 0.05)
    got = [(row["method"], row["seed"], row["value"], row["status"], row["role"]) for row in rows.to_pylist()]
    assert got == [
        ("m0", 0, 0.5, "ok", "ood"),
        ("m0", 1, None, "failed", "ood"),
        ("zero shot", None, 0.25, "ok", "ood"),
    ]
    warned = {w.rule: w.text for w in findings(rows, record).warnings}
    assert "note" in warned["unused columns"]
    assert "no ID set" in warned


def test_a_role_that_contradicts_the_option_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ["m0,0,val,0.5,id", "m0,0,V2,0.4,ood"], f"{HEAD},role")
    with pytest.raises(UserError, match="line 2, column role: val is id here, but --id names V2"):
        read_table(path, "m0", ["V2"], 0.05)
    assert read_table(path, "m0", ["val"], 0.05)[1]["data"]["roles"] == {"val": "id", "V2": "ood"}


def test_names_of_options_that_are_spelled_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, [f"m0,0,{NFC},0.5", f"M1,0,{NFC},0.5"]))
    for options, words in (
        (["--baseline", "m1"], "no such method; the table has m0 and M1; 'M1' differs from it only in case"),
        (["--baseline", "m0", "--id", NFD], "differs from it only in unicode form"),
        (["--baseline", "m0", "--compare", "m0,m1"], "'M1' differs from it only in case"),
        (["--baseline", "m0", "--line", "R=nan,0"], "--line R=nan,0: give DATASET and two finite numbers"),
    ):
        assert main(["--table", path, *options]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"PK\x03\x04\xff\xfe", "méthode;é".encode("latin-1"), HEAD.encode("utf-16")])
def test_a_file_that_is_not_text_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not text in UTF-8 .*CSV UTF-8"):
        read_table(path, "m0", [], 0.05)
