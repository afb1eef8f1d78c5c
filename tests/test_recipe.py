"""What a reader needs to repeat a sweep stands in its report."""

from pathlib import Path
from typing import Any

from saeft_ray.config.schema import METHODS
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.rows import table
from saeft_ray.report import findings, write_report
from saeft_ray.report.from_table import read_table
from saeft_ray.report.render.sections.summary import how_to_read

import sweeps
from report_rows import record, rows


def made(folder: Path, **sections: Any) -> dict[str, Any]:
    config = sweeps.config(folder, **sections)
    return record_of(Plan(config, find_facts(config)), None)


def test_every_method_says_what_it_is() -> None:
    for name, method in METHODS.items():
        if method.__module__.startswith("saeft_ray."):
            assert method.about.endswith("."), name
            assert len(method.about) > 20, name


def test_recipe_data_and_dictionary_are_in_the_report(tmp_path: Path) -> None:
    own = made(tmp_path)
    write_report(table(rows(methods=["zero_shot", "ft", "sae_ft"], search=False)), own, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    for words in (
        "1 epoch in batches of 128 images",
        "reached over the first 15 % of all steps, then a cosine to 0",
        "AdamW, weight decay 0.1",
        "1,500 images. Handwritten digits of MNIST in white ink on plain grounds",
        "OOD: 1,000 images. Outlines only",
        "10: zero, one, two",
        "a photo of a {}",
        "128 atoms, 8 active in each image",
        "40 steps in batches of 256 embeddings",
        "embeddings of the 1,500 training images, 1 view of each",
        "features that appear or disappear",
        "It reads the trained dictionary.",
        "It is made of ft.",
    ):
        assert words in text, words
        assert words in page, words


def test_a_search_that_never_was_is_not_told() -> None:
    for searched in (True, False):
        given = record()
        given["config"] |= {"train": {"epochs": 1}, "rerank": {"top": 2, "seeds": 2}}
        got = findings(table(rows(search=searched)), given)
        assert got.recipe is not None
        assert {"search", "rerank"} & {fact.name for fact in got.recipe.training} == (
            {"search", "rerank"} if searched else set()
        )
        assert how_to_read(got).startswith("After its settings were chosen" if searched else "Every method was run")


def test_a_sweep_without_a_dictionary_has_no_such_block(tmp_path: Path) -> None:
    got = findings(
        table(rows(methods=["zero_shot", "ft"], search=False)), made(tmp_path, methods={"zero_shot": {}, "ft": {}})
    )
    assert got.recipe is not None
    assert got.recipe.dictionary == ()


def test_a_folder_says_where_its_images_are(tmp_path: Path) -> None:
    from saeft_ray.datasets.folder import Folder

    data = Folder.model_validate(
        {
            "train": "/birds/train",
            "tests": {"S": {"path": "/birds/s", "role": "ood"}},
            "scale": [0.5, 1.0],
            "flip": True,
        }
    )
    about = data.about()
    assert about["S"] == "The class folders of /birds/s."
    assert "10 % of every class of /birds/train" in about["selection"]
    assert about["views"] == "A random part of the image, of 50 to 100 % of its area, mirrored in half of the views."


def test_an_older_record_and_a_table_say_what_they_know(tmp_path: Path) -> None:
    assert findings(table(rows()), record()).recipe is None
    path = tmp_path / "runs.csv"
    path.write_text("method,seed,dataset,accuracy\n" + "".join(f"{m},{s},R,0.{s}{m}\n" for m in "12" for s in range(3)))
    data, own = read_table(path, "1", [], 0.05)
    write_report(data, own, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "how the methods were trained, and on which data, is not known here" in text
