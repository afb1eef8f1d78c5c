"""Reports of numbers that were made elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from saeft_ray import stats
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
        (["--line", "R"], "--line R: give DATASET=SLOPE,INTERCEPT"),
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
        (["m0,0,R,72.3"], "line 2: accuracy 72.3 is not a fraction in \\[0, 1\\]; it looks like a percentage"),
        (["m0,0,R,-0.1"], "line 2: accuracy -0.1 is not a fraction"),
        (["m0,0,R,high"], "line 2: accuracy 'high' is not a number"),
        (["m0,x,R,0.5"], "line 2: seed 'x' is not a whole number"),
        ([",0,R,0.5"], "line 2: method and dataset"),
        ([], "needs lines under the columns method, seed, dataset and accuracy"),
        (["m0,0,R,0.5", "m0,0,R,0.6"], "two confirm rows for method m0, seed 0, dataset R"),
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
