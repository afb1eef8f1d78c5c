"""The section `features`, its registration, its files and tables, and failures that lose no report."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from saeft_ray.config.feature_files import Line, read_labels
from saeft_ray.config.sweep_file import parse
from saeft_ray.errors import Damaged, UserError
from saeft_ray.features import content as c
from saeft_ray.features import files, found
from saeft_ray.features.each import serially
from saeft_ray.features.labels import labels
from saeft_ray.features.tables import FIRINGS, changes_table, features_table
from saeft_ray.orchestration.reopen import _asked_of
from saeft_ray.records.preregistration import preregistration
from saeft_ray.records.query import query
from saeft_ray.records.rows import SCHEMA

from sweeps import SMALL

EFFECT = c.Effect(mean=0.5, lo=0.2, hi=0.8, p=0.001, q=0.01, verdict="grew", control=0.1, beyond_q=None)
CHANGE = c.FeatureChange(
    method="ft", against="frozen", effect=EFFECT, gain=-0.1, born=3.0, died=1.0, other_classes=None,
    shared=c.Shared(word="red", shift=2.0, q=0.01, agree=1.0), born_images=(c.Image(set="UCI", index=4),),
    died_images=(),
)  # fmt: skip
FEATURE = c.Feature(
    index=7, live=0.1, mass=2.0, name=None, words=(("red", 0.4),), found=2, of=3, strongest=(), spread=(),
    changes=(CHANGE, replace(CHANGE, against="mse")),
)  # fmt: skip
FOUND = c.WhatChanged(
    sweep="small", alpha=0.05, least=0.1, baseline="ft", sets=("UCI",), sentences=("One feature grew.",), readings=(),
    features=(FEATURE,), shortcuts=(), similarities=(), specimens=(), missing=(),
)  # fmt: skip


def made(**features):
    return parse(yaml.safe_dump({**SMALL, **features}))


def page(found, folder):
    (folder / files.PAGE).write_text("<!doctype html>")
    return folder / files.PAGE


def test_the_section_changes_no_identity_and_has_a_short_form():
    plain = made()
    assert plain.features.mode == "off"
    for given in ("off", "full", {"alpha": 0.01, "words": ["a", "b"], "sets": "all"}, False):
        assert made(features=given).determining_settings() == plain.determining_settings()
    assert not made(features=False).features.on
    assert not parse(yaml.safe_dump(SMALL) + "features: off\n").features.on
    assert made(features={"sets": "all"}).features.sets is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("sumary", "features.mode: found 'sumary'"),
        ({"lest": 1}, "did you mean 'least'"),
        ({"sets": ["nope"]}, "features.sets.0: unknown set 'nope'"),
        ({"words": 5}, "features.words: found 5"),
    ],
)
def test_mistakes_have_their_place(given, words):
    with pytest.raises(UserError, match=words):
        made(features=given)


def test_files_and_sets_that_are_wrong_are_told_at_once_with_their_places(tmp_path):
    (tmp_path / "words").write_text("# nothing\n\n")
    (tmp_path / "labels").write_text("image,colour\n1,red\n")
    section = {"words": str(tmp_path / "words"), "labels": str(tmp_path / "labels"), "sets": ["UCI", "UKI", "UCI"]}
    with pytest.raises(UserError) as told:
        made(features=section)
    for line in (
        "features.sets.1: unknown set 'UKI', did you mean 'UCI'?",
        "features.sets.2: 'UCI' stands there twice",
        "holds no word",
        "no column 'attribute'",
    ):
        assert line in str(told.value)
    assert not made(features={**section, "sets": ["UCI"], "mode": "off"}).features.on


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"caf\xe9\n", "is not text in UTF-8"),
        (b"navy\na\0b\n", "features.words.1: .* holds characters that cannot be shown"),
        (b"x" * 400, "features.words.0: .* has 400 characters"),
        ("\n".join(map(str, range(100_000))).encode(), "features.words: 100,000 words; at most 20,000"),
        (None, "features.words: .*cannot be read"),
    ],
)
def test_words_that_cannot_be_words_are_told_before_anything_runs(tmp_path, words, said):
    if words is not None:
        (tmp_path / "words").write_bytes(words)
    with pytest.raises(UserError, match=said):
        made(features={"words": str(tmp_path / "words")})


def test_words_in_any_script_and_form_are_taken(tmp_path):
    (tmp_path / "words").write_bytes("\ufeffnavy\r\n\r\n<script>\r\nمی‌خواهم\r\n青い\r\nnavy\r\n".encode())
    assert made(features={"words": str(tmp_path / "words")}).features.on
    assert made(features={"words": ["", " ", "नीला", "a\tb"]}).features.on
    for given, said in ((["\ud800"], "half of a character"), ("a\0b", "cannot be a path")):
        with pytest.raises(UserError, match=said):
            made(features={"words": given})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image|attribute\n1|red\n", "no column 'image', 'attribute', but 'image|attribute'"),
        ("image,attribute,attribute\n1,red,blue\n", "2 columns named attribute; keep one"),
        ("image,attribute,set\n0,red, shiny,UCI\n", "line 2: 4 cells, but the header has 3"),
        ("image,attribute,set\n0,red,UKI\n", "line 2: unknown set 'UKI', did you mean 'UCI'"),
        ('image,attribute\n0,"red\n', "is not CSV"),
        ("", "is empty; give a header with the columns image, attribute"),
        ("image,attribute\n", "has no line below its head"),
    ],
)
def test_labels_that_are_wrong_are_told_with_their_line(tmp_path, text, said):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(UserError, match=f"features.labels: .*{said}"):
        made(features={"labels": str(tmp_path / "labels")})


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    (tmp_path / "labels").write_bytes(b'\xef\xbb\xbfimage,attribute,set,\r\n0,"red, or\r\nso",UCI,\r\n0,red,,\r\n')
    lines = read_labels(str(tmp_path / "labels"))
    assert [(line.image, line.attribute, line.set) for line in lines] == [
        ("0", "red, or\r\nso", "UCI"),
        ("0", "red", ""),
    ]


def test_a_number_of_thousands_of_digits_is_no_image():
    found = labels([Line(2, "9" * 5000, "red", ""), Line(3, "1", "red", "UCI")], {"UCI": 2})
    assert found.missing == 1
    assert found.member.toarray().tolist() == [[0], [1]]


def test_only_a_record_with_features_registers_them():
    config = made()
    record = {"config": config.determining_settings(), "data": {"roles": {"UCI": "ood"}}, "confirm_seeds": [1, 2]}
    before = preregistration(record)
    assert "features" not in before
    assert _asked_of(record) == {}
    after = preregistration({**record, "features": config.features.model_dump(mode="json")})
    registered = after.pop("features")
    assert after == before
    assert (registered["alpha"], registered["least"], registered["against"]) == (0.05, 0.1, ["frozen", "ft"])


def test_tests_that_were_not_registered_are_called_exploratory():
    registered = {"features": {"alpha": 0.05, "least": 0.1}}
    assert found.labelled(FOUND, registered) == FOUND
    assert "registered no tests" in found.labelled(FOUND, {}).sentences[0]
    assert "exploratory" in found.labelled(replace(FOUND, least=0.2), registered).sentences[0]


def test_a_part_says_in_its_first_sentence_of_what_it_is_and_which_words_name():
    assert found.scoped(FOUND, None, None, None, None) == FOUND
    part = found.scoped(FOUND, ["ft"], None, ["UCI"], "birds.txt")
    assert part.scope == "method ft, images of UCI, words of birds.txt"
    assert part.sentences[0].startswith("This is a part of what changed, not all: method ft, images of UCI.")
    assert "birds.txt" in part.sentences[0]
    assert part.sentences[1:] == FOUND.sentences


def test_what_was_written_is_read_again_and_answers_sql(tmp_path):
    assert features_table(FOUND).num_rows == 1
    assert changes_table(FOUND)["against"].to_pylist() == ["frozen", "mse"]
    with pytest.raises(UserError, match="nothing was found"):
        files.asked_tables("SELECT * FROM features", str(tmp_path))
    files.keep(FOUND, str(tmp_path))
    assert files.stored(str(tmp_path)) == FOUND
    asked = "SELECT c.verdict, f.found FROM changes c JOIN features f USING (feature) WHERE against = 'mse'"
    _, lines = query(SCHEMA.empty_table(), asked, files.asked_tables(asked, str(tmp_path)))
    assert lines == [("grew", 2)]
    assert files.as_csv(FOUND).count("\n") == 3


def test_firings_have_a_file_of_their_own_and_answer_sql(tmp_path):
    line = {
        "method": "ft", "against": "frozen", "feature": 7, "set": "UCI", "class": "one", "mass_before": 1.0,
        "mass": 2.0, "newly_active": 3.5, "no_longer_active": 0.0,
    }  # fmt: skip
    table = FIRINGS.empty_table().from_pylist([line], FIRINGS)
    files.keep(replace(FOUND, firings=table), str(tmp_path))
    assert "firings" not in (tmp_path / files.JSON).read_text()
    asked = "SELECT x.class, x.newly_active, c.born FROM firings x JOIN changes c USING (feature, method, against)"
    _, lines = query(SCHEMA.empty_table(), asked, files.asked_tables(asked, str(tmp_path)))
    assert lines == [("one", 3.5, 3.0)]
    (tmp_path / files.FIRED).write_bytes(b"PAR1 and no more")
    assert "firings" not in files.asked_tables("SELECT * FROM changes", str(tmp_path))
    with pytest.raises(Damaged, match=r"firings\.parquet: cannot be read"):
        files.asked_tables(asked, str(tmp_path))
    (tmp_path / files.FIRED).unlink()
    with pytest.raises(UserError, match="there is no table `firings`: what was found has no such file; run python"):
        files.asked_tables(asked, str(tmp_path))
    assert files.asked_tables("SELECT * FROM changes", str(tmp_path)).keys() == {"changes"}
    files.keep(FOUND, str(tmp_path))
    assert files.asked_tables(asked, str(tmp_path))["firings"].num_rows == 0


def test_what_is_not_ours_is_damaged():
    for content in (b"[]", b'{"mine": 1}', b"{"):
        with pytest.raises(Damaged):
            files.from_json(content, "there")


def test_a_failure_becomes_a_sentence_and_a_signal_gets_through():
    def fails(*args, **settings):
        raise UserError("the images are gone")

    def stopped(*args, **settings):
        raise KeyboardInterrupt

    plan = SimpleNamespace(config=made())
    lost = found.never_lost(fails, plan, None, None, serially)
    assert "the images are gone" in lost.missing[0]
    assert files.from_json(files.as_json(lost).encode(), "") == lost
    with pytest.raises(KeyboardInterrupt):
        found.never_lost(stopped, plan, None, None, serially)
