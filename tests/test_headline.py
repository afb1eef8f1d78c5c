"""The headline praises nobody for what was paid with ID accuracy, for what did nothing, or for guessing."""

import dataclasses
from typing import Any

from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings
from saeft_ray.report.content import Report
from saeft_ray.report.from_table import read_table
from saeft_ray.report.render.sections.verdicts import section

from report_rows import record, rows


def report(given_rows: list[Row], **rules: Any) -> Report:
    return findings(table(given_rows), record(**rules))


def with_values(given_rows: list[Row], method: str, change: Any) -> list[Row]:
    """The rows of `method` in confirm with the value `change(row)` and no single examples."""
    return [
        dataclasses.replace(row, value=change(row), correct=None)
        if (row.method, row.phase) == (method, "confirm")
        else row
        for row in given_rows
    ]


def frozen_scores(given_rows: list[Row]) -> dict[str, float]:
    return {row.dataset: row.value or 0 for row in given_rows if row.method == "zero_shot"}


def test_a_method_that_loses_id_accuracy_is_a_trade_off() -> None:
    given = with_values(rows(bits=False), "mse", lambda row: row.value - (0.1 if row.dataset == "ID" else 0))
    got = report(given).headline
    assert "a trade-off, better than ft but with less ID accuracy: mse (+" in got
    assert "ID −" in got
    assert "mse" not in got.split("better than ft, with ID accuracy undecided: ")[1].split(";")[0]
    assert "trade-off" not in report(given, margin=0.2).headline


def test_a_method_that_gains_id_accuracy_and_loses_shifts_is_one_too() -> None:
    given = with_values(rows(bits=False), "mse", lambda row: row.value + (0.05 if row.dataset == "ID" else -0.2))
    assert "a trade-off, worse than ft but with more ID accuracy: mse (−" in report(given).headline


def test_frozen_models_are_references() -> None:
    got = report(rows())
    assert got.headline.split("for reference, without fine-tuning: ")[1].startswith("zero_shot (+4")
    assert "zero_shot" not in got.headline.split("for reference")[0]
    assert got.standing.references == ("zero_shot",)


def test_a_method_that_did_not_move_is_no_winner() -> None:
    given = rows(bits=False)
    frozen = frozen_scores(given)
    given = with_values(given, "mse", lambda row: frozen[row.dataset] + 0.001)
    got = report(given)
    assert "did not move from zero_shot beyond 0.50 pp on any test set: mse" in got.headline
    assert "mse" not in got.headline.split("did not move")[0]
    moved = with_values(given, "mse", lambda row: frozen[row.dataset] + (0.01 if row.dataset == "A" else 0))
    assert "did not move" not in report(moved).headline


def test_guessing_is_no_victory() -> None:
    given = with_values(rows(bits=False), "ft", lambda row: 0.02)
    given = with_values(given, "mse", lambda row: 0.11)
    got = report(given)
    assert "at chance on every test set: mse" in got.headline
    assert got.standing.at_chance == ("ft", "mse")


def test_the_headline_answers_for_the_sae() -> None:
    question = "Is the SAE load-bearing?"
    assert f"{question} Not shown: sae_ft is not distinguished from random_dictionary." in report(rows()).headline
    better = rows(shift={"sae_ft": 0.03})
    assert f"{question} Yes, on these test sets: sae_ft beats random_dictionary." in report(better).headline
    worse = rows(shift={"random_dictionary": 0.03})
    assert f"{question} No: random_dictionary beats sae_ft." in report(worse).headline
    assert f"{question} No: with random_dictionary the result stays" in report(rows(), margin=0.01).headline
    assert question not in report(rows(methods=["ft", "mse"])).headline


def test_a_sae_that_did_nothing_answers_nothing() -> None:
    given = rows(bits=False)
    frozen = frozen_scores(given)
    got = report(with_values(given, "random_dictionary", lambda row: frozen[row.dataset]))
    assert "Is the SAE load-bearing? No answer: sae_ft or random_dictionary did not move" in got.headline
    assert got.load_bearing[0].answer.startswith("No answer")


def test_one_weak_answer_outweighs_the_others() -> None:
    given = rows(shift={"sae_ft": 0.03})
    twin = [
        dataclasses.replace(row, method="untrained", trial=f"u{row.trial}") for row in given if row.method == "sae_ft"
    ]
    own = record()
    own["config"]["methods"] |= {"untrained": {**own["config"]["methods"]["sae_ft"], "dictionary": "untrained"}}
    headline = findings(table([*given, *twin]), own).headline
    assert "load-bearing? No: sae_ft and untrained have identical scores; sae_ft beats random_dictionary." in headline


def test_the_card_of_a_trade_off_says_so() -> None:
    given = with_values(rows(bits=False), "mse", lambda row: row.value - (0.1 if row.dataset == "ID" else 0))
    found: Any = section(report(given))
    cards = {card.title: card.note for block in found.blocks for card in block.cards}
    assert cards["mse"].endswith("A trade-off, not a gain.")
    assert "A reference: it was not fine-tuned." in cards["zero_shot"]
    assert "trade-off" not in cards["sae_ft"]


def test_a_frozen_model_of_a_table_is_known_by_its_constant_scores(tmp_path: Any) -> None:
    lines = ["method,seed,dataset,accuracy,role"]
    for seed in range(5):
        for name, ood, known in (("ft", 0.50, 0.90), ("mse", 0.55, 0.895), ("zero_shot", 0.68, 0.78)):
            noise = 0 if name == "zero_shot" else seed / 1000 * (1 if name == "ft" else -1)
            lines += [f"{name},{seed},V2,{ood + noise},ood", f"{name},{seed},ID,{known + noise},id"]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    got = findings(*read_table(tmp_path / "runs.csv", "ft", [], 0.05))
    assert got.standing.references == ("zero_shot",)
    assert "zero_shot" not in got.headline.split("for reference")[0]
