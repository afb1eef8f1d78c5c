"""The page of what changed: nothing unescaped, small for any number of features, and usable in a browser."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from test_report import MEASURE

from saeft_ray.datasets.digit_world import DigitWorld
from saeft_ray.datasets.digit_world.splits import DigitSplit
from saeft_ray.features.content import (
    Effect,
    Feature,
    FeatureChange,
    Image,
    Movement,
    Name,
    Reading,
    Shared,
    Shortcut,
    Similarity,
    Specimen,
    Verdict,
    WhatChanged,
)
from saeft_ray.features.files import as_csv, as_json, from_json
from saeft_ray.features.judged import gap, sure
from saeft_ray.features.sentences import sentences
from saeft_ray.features.tables import changes_table
from saeft_ray.records.rows import table
from saeft_ray.report import findings, write_features, write_report
from saeft_ray.report.render import features_page, shortcut_pictures
from saeft_ray.report.render.blocks import FeatureCard, FeatureCards
from saeft_ray.report.render.feature_cards import card, ordered, reach
from saeft_ray.report.render.plan_images import images_of
from saeft_ray.report.render.sections import what_changed
from saeft_ray.report.render.thumbnails import Album

from report_rows import record, rows

WORDS = ("seven", "navy", "outlined", "<script>alert(1)</script>", "七と猫", "שבע", "a|b`[x]_", "zero")


def images(at: int, n: int = 8) -> tuple[Image, ...]:
    return tuple(Image(set="B", index=(37 * at + 11 * k) % 500) for k in range(n))


def change(method: str, at: int, seeds: bool = True) -> FeatureChange:
    mean = ((at * 7) % 11 - 5) / 4 * (1 if method == "ft" else 0.4)
    sure = seeds and abs(mean) > 0.5
    verdict: Verdict = ("grew" if mean > 0 else "shrank") if sure else "not found" if seeds else "not tested"
    effect = Effect(
        mean=mean, lo=mean - 0.2 if seeds else None, hi=mean + 0.25 if seeds else None, p=0.01 if seeds else None,
        q=0.003 if sure else 0.4 if seeds else None, verdict=verdict, control=0.05 if seeds else None,
        beyond_q=0.02 if seeds else None,
    )  # fmt: skip
    shared = Shared(word="navy", shift=0.9, q=0.001, agree=1.0) if at % 2 else None
    return FeatureChange(
        method=method, against="frozen", effect=effect, gain=-0.1, born=40.5, died=7.25,
        other_classes=0.9 if at % 3 else None, shared=shared, born_images=images(at + 1), died_images=images(at + 2, 5),
    )  # fmt: skip


def feature(at: int, seeds: bool = True, pictures: bool = True) -> Feature:
    word = WORDS[at % len(WORDS)]
    made = Feature(
        index=at, live=0.01 + (at * 13 % 17) / 100, mass=12.5,
        name=Name(word=word, score=0.5, p=0.004) if at % 4 != 2 else None, words=((word, 0.5), ("round", 0.2)),
        found=(4, 5, 1, None)[at % 4], of=5 if at % 4 != 3 else None, strongest=images(at), spread=images(at + 5),
        changes=(change("ft", at, seeds), change("sae_ft", at, seeds)),
    )  # fmt: skip
    return made if pictures else replace(made, strongest=(), spread=())


def what(n: int = 40, seeds: bool = True) -> WhatChanged:
    movements = tuple(
        Movement(method=m, seeds=10 if seeds else 1, moved=0.3, seen=s, drift=d, fvu0=0.05, fvu=f, added=0.134,
                 strengthened=0.2, weakened=0.18, removed=0.12, grew=4, shrank=9, beyond=6)
        for m, s, d, f in (("ft", 0.67, 0.13, 0.07), ("sae_ft", None, None, None))
    )  # fmt: skip
    kinds = ("trained", "pca", "neurons", "random")
    return WhatChanged(
        sweep="digits <b>", alpha=0.05, least=0.1, baseline="ft", sets=("B", "C"),
        sentences=("ft surely changed 13 of 52 features.", "A random dictionary names nearly as many: <i>careful</i>."),
        readings=(Reading(kind="trained", width=64, live=60, tested=52, named=None, movements=movements),),
        features=tuple(feature(k, seeds) for k in range(n)),
        shortcuts=(Shortcut(method="ft", value=0.21, lo=None, hi=None, candidates=(("one", "navy", 0.2),)),),
        similarities=tuple(
            Similarity(method=m, against="frozen", dataset=d, site=s, biased=0.9, unbiased=u)
            for m, u in (("ft", 0.886), ("sae_ft", None)) for d in ("B", "C") for s in ("embedding", "block 1")
        ),
        specimens=tuple(
            Specimen(kind=k, word=w, index=3, score=0.5, strongest=images(i + j), spread=images(9 * i + j))
            for i, k in enumerate(kinds) for j, w in enumerate(("seven", "zero", "navy"))
        ),
        missing=("The blocks were not read: <none>.",),
    )  # fmt: skip


def digits() -> Any:
    split = DigitSplit("selection", 0.8)

    def thumbnail(image: Image) -> NDArray[np.uint8] | None:
        if image.index % 50 == 49:
            return None
        return split.images(np.array([image.index]))[0].permute(1, 2, 0).numpy()

    return thumbnail


def noise(image: Image) -> NDArray[np.uint8]:
    return np.random.default_rng(image.index).integers(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("given", [what(), what(0), what(3, seeds=False)], ids=["odd names", "none", "one seed"])
def test_page_escapes_and_needs_nothing_else(given: WhatChanged) -> None:
    page = features_page.render(given, noise)
    assert page.count("<script>") == 1
    assert "<i>careful" not in page
    assert "digits <b>" not in page
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower().split()
    markdown = features_page.as_markdown(given)
    assert "<script>" not in markdown


def test_json_gives_the_content_back_and_csv_has_every_change() -> None:
    for given in (what(), what(0), what(3, seeds=False)):
        assert from_json(as_json(given).encode(), "features.json") == given
        assert len(as_csv(given).splitlines()) == 1 + 2 * len(given.features)


def test_large_stays_small_and_says_what_is_left_out() -> None:
    pages = {n: features_page.render(what(n), noise) for n in (500, 9000)}
    for page in pages.values():
        assert len(page.encode()) <= features_page.LARGEST
        assert "least changed" in page
    listed = pages[9000].count('<details class="feature"')
    assert 0 < listed <= features_page.ROWS
    assert f"The {9000 - listed} least changed features are not on this page" in pages[9000]


def test_gone_images_are_said() -> None:
    page = features_page.render(what(2), lambda image: None)
    assert "images are gone" in page
    assert "data:image" not in page
    album = Album(lambda image: None if image.index == images(0)[0].index else noise(image), 10**6)
    strip = album.strip(images(0))
    assert (strip.shown, strip.gone, strip.height) == (7, 1, 64)


def test_report_has_the_section_only_where_there_is_a_record(tmp_path: Path) -> None:
    data = table(rows(seeds=3, search=False))
    write_report(data, record(), tmp_path / "without")
    write_report(data, record(), tmp_path / "with", what(), noise)
    without = (tmp_path / "without" / "report.html").read_text()
    assert "What changed" not in without
    assert ".feature" not in without
    assert not (tmp_path / "without" / "features.html").exists()
    within = (tmp_path / "with" / "report.html").read_text()
    assert '<a href="features.html">' in within
    assert "<script>alert" not in within
    text = (tmp_path / "with" / "report.md").read_text()
    assert "## What changed" in text
    assert "random draws in what changed: the movement dealt" in text
    assert "random draws in what changed" not in (tmp_path / "without" / "report.md").read_text()
    assert "other SAE seeds" in text.split("## Before you conclude anything")[1].split("\n## ")[0]
    same = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("with", "without")]
    assert same[0] == same[1]
    assert "what_changed" not in same[1]


def against_ft(at: int) -> FeatureChange:
    return replace(change("ft", at + 5), method="sae_ft", against="ft")


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[WhatChanged, Callable[[str], str]]:
    """What a page shows, and what becomes of the page with a state in its address, or in a narrow window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    given = what()
    both = [replace(f, changes=(*f.changes, against_ft(f.index))) for f in given.features]
    given = replace(given, features=tuple(f if f.index % 3 else of_control(f) for f in both))
    folder = tmp_path_factory.mktemp("page")
    page = features_page.render(given, digits())
    (folder / "features.html").write_text(page)
    (folder / "390.html").write_text(MEASURE.format(width=390, page=html.escape(page)))
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900",
    ]  # fmt: skip

    def shown(name: str) -> str:
        done = subprocess.run(
            [browser, *options, "--dump-dom", f"file://{folder / name}"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr
        return done.stdout

    return given, shown


def listed(page: str) -> tuple[list[int], list[int]]:
    """The features of a page as it was left by its script, in their order: all, and those to be seen."""
    found = re.findall(r'<details class="feature" data-index="(\d+)"[^>]*?( hidden="")?>', page)
    return [int(index) for index, _ in found], [int(index) for index, hidden in found if not hidden]


def test_page_sorts_and_searches_in_a_browser(browsed: tuple[WhatChanged, Callable[[str], str]]) -> None:
    given, shown = browsed
    every, seen = listed(shown("features.html#search=seven&sort=index&method=ft&verdict=shrank"))
    assert every == list(range(40))
    assert seen == [
        f.index for f in given.features if f.words[0][0] == "seven" and f.changes[0].effect.verdict == "shrank"
    ]
    measured = re.search(r"<title>(\d+),(\d+)</title>", shown("390.html"))
    assert measured
    assert int(measured[1]) <= int(measured[2]), "the page must not scroll sideways"


@pytest.mark.parametrize("at", [0, 2], ids=["ft", "sae_ft against ft"])
def test_page_shows_what_surely_changed_under_one_comparison(
    browsed: tuple[WhatChanged, Callable[[str], str]], at: int
) -> None:
    given, shown = browsed
    label = ("ft", "sae_ft", "sae_ft%20against%20ft")[at]
    wanted = {f.index: gap(f.changes[at]) for f in given.features if sure(f.changes[at], given.alpha)}
    page = shown(f"features.html#method={label}&verdict=sure")
    _, seen = listed(page)
    assert 0 < len(wanted) < sum(f.changes[at].effect.verdict in ("grew", "shrank") for f in given.features)
    assert sorted(seen) == sorted(wanted)
    assert [wanted[index] for index in seen] == sorted(wanted.values(), reverse=True)
    assert f"{len(wanted)} of 40 features" in page


def test_page_lists_every_feature_in_the_order_of_the_report_first(
    browsed: tuple[WhatChanged, Callable[[str], str]],
) -> None:
    given, shown = browsed
    every, seen = listed(shown("features.html"))
    assert every == seen == [f.index for f in ordered(given)]


def of_control(given: Feature) -> Feature:
    """The feature, none of whose changes goes beyond the control."""
    return replace(given, changes=tuple(replace(c, effect=replace(c.effect, beyond_q=0.4)) for c in given.changes))


def test_what_fails_the_control_is_not_sure_and_comes_last() -> None:
    given = what(8)
    fails = replace(given.features[3], changes=tuple(
        replace(c, effect=replace(c.effect, mean=3.0, verdict="grew", beyond_q=0.4)) for c in given.features[3].changes
    ))  # fmt: skip
    given = replace(given, features=(fails, *given.features[4:]))
    assert ordered(given)[0] != fails
    line = card(fails, given, reach(given)).effects[0]
    assert "no more than the same movement dealt to other images does" in line.note
    assert not line.sure
    passes = next(c for f in given.features[1:] for c in f.changes if c.effect.verdict == "shrank")
    assert sure(passes, given.alpha)
    assert not sure(passes, 0.01)


def seven_on_navy(**changed: Any) -> WhatChanged:
    """ft's only candidate is seven ← navy; the newly active images of feature 9 share navy, those of feature 1 more."""
    given = what()
    shortcut = Shortcut(method="ft", value=0.2, lo=None, hi=None, candidates=(("seven", "navy", 0.2),))
    name, shared = Name(word="seven", score=0.5, p=0.004), Shared(word="navy", shift=0.9, q=0.001, agree=1.0)
    features = [
        replace(f, name=name, changes=(replace(f.changes[0], shared=shared, born=born), f.changes[1]))
        for f, born in ((given.features[1], 80.0), (given.features[9], 40.0))
    ]
    return replace(given, shortcuts=(shortcut,), features=(*features, *given.features[2:5]), **changed)


def test_shortcut_candidates_are_pictured_with_what_their_new_images_share() -> None:
    shown = shortcut_pictures.candidates(seven_on_navy())
    assert [(c.word, c.feature.index, c.change.method) for c in shown] == [("seven", 1, "ft")]
    drawn = shortcut_pictures.draw(seven_on_navy(), noise)
    assert drawn
    assert drawn == shortcut_pictures.draw(seven_on_navy(), noise)
    assert drawn.count("data:image/png") == 2
    assert "80 images per seed, 90 % of other classes; like “navy”" in drawn
    page = features_page.render(seven_on_navy(), noise)
    assert '<figure class="shortcuts">' in page
    assert not re.search(r'href="(?!data:|#)', page)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("word", [*WORDS, "$a$", "_x", 60 * "long"])
def test_shortcut_candidates_of_any_name_are_pictured(word: str) -> None:
    given = seven_on_navy()
    named = given.features[0]
    change = replace(named.changes[0], method=word, shared=Shared(word=word, shift=0.9, q=0.001, agree=1.0))
    named = replace(named, name=Name(word=word, score=0.5, p=0.004), changes=(change,))
    shortcut = Shortcut(method=word, value=0.2, lo=0.1, hi=0.3, candidates=((word, word, 0.2),))
    drawn = shortcut_pictures.draw(replace(given, features=(named,), shortcuts=(shortcut,)), noise)
    assert drawn
    assert drawn.count("data:image/png") == 2
    assert "<script>" not in drawn
    ElementTree.fromstring(drawn)


@pytest.mark.parametrize("given", [
    replace(seven_on_navy(), shortcuts=()),
    replace(seven_on_navy(), shortcuts=(Shortcut(method="ft", value=0.2, lo=None, hi=None, candidates=()),)),
    replace(seven_on_navy(), features=what().features[2:3]),
    replace(what(), shortcuts=(Shortcut(method="ft", value=0.2, lo=0, hi=1, candidates=(("seven", "pink", 0.2),)),)),
], ids=["no shortcut", "no candidate", "no feature of the class", "no image shares the word"])  # fmt: skip
def test_without_a_candidate_nothing_is_pictured(given: WhatChanged) -> None:
    assert shortcut_pictures.draw(given, noise) is None
    assert '<figure class="shortcuts">' not in features_page.render(given, noise)


def test_shortcut_candidates_whose_images_are_gone_are_not_pictured() -> None:
    assert shortcut_pictures.draw(seven_on_navy(), None) is None
    assert shortcut_pictures.draw(seven_on_navy(), lambda image: None) is None


def told_in_report(given: WhatChanged) -> list[FeatureCard]:
    report = findings(table(rows(seeds=3, search=False)), record(), given)
    section = what_changed.section(report)
    assert section
    return [c for block in section.blocks if isinstance(block, FeatureCards) for c in block.cards]


def test_report_shows_what_surely_changed_most_named_or_not_and_then_what_has_a_name() -> None:
    unstable = [replace(f, found=0, of=3) for f in what().features]
    given = replace(what(), features=tuple(replace(f, name=None) if f.index != 39 else f for f in unstable))
    surely = [f for f in ordered(given) if any(sure(c, given.alpha) for c in f.changes)]
    assert surely.index(given.features[39]) > 3, "the named one is not among the first"
    cards = told_in_report(given)
    assert [c.title for c in cards].count("unnamed") == 5
    assert [c.note.split(" · ")[0] for c in cards[:3]] == [f"feature {f.index}" for f in surely[:3]]
    assert cards[3].note.startswith("feature 39 ")
    assert all("found by 0 of 3 other SAE seeds" in c.note for c in cards)
    assert told_in_report(replace(given, features=tuple(map(of_control, given.features)))) == []


def test_brief_card_shows_the_images_of_a_sure_change_against_the_frozen_model() -> None:
    given = what().features[3]
    larger = against_ft(3)
    larger = replace(larger, effect=replace(larger.effect, mean=3.0, verdict="grew"))
    brief = card(replace(given, changes=(larger, *given.changes)), what(0), 2.0, brief=True)
    assert [line.title for line in brief.pictures][2:] == ["ft: newly fires on", "ft: no longer fires on"]
    full = card(replace(given, changes=(larger,)), what(0), 2.0)
    assert [line.title for line in full.pictures][2:] == [
        "fires under sae_ft, not under ft", "fires under ft, not under sae_ft",
    ]  # fmt: skip


def test_a_feature_that_fits_no_word_names_none() -> None:
    given = replace(what().features[2], words=(("pink", 0.001), ("round", 0.0)), live=0.0001)
    note = card(given, what(0), 1.0).note
    assert "no name ·" in note
    assert "pink" not in note
    assert "active on less than 0.1 % of the images" in note


def test_figure_of_specimens_keeps_its_pictures_on_a_large_page() -> None:
    page = features_page.render(what(60), noise, largest=3_000_000)
    below = page[page.index("Are SAE features more than directions?") :]
    assert below.count("data:image") >= 8
    assert "left out for size" in page


def test_page_of_a_plan_has_the_images_of_its_data(tmp_path: Path) -> None:
    data = DigitWorld()
    plan = cast(Any, SimpleNamespace(config=SimpleNamespace(data=data), facts=SimpleNamespace(image_size=64)))
    given = what(2)
    shown = images_of(plan)
    assert shown
    pixels = shown(Image(set="selection", index=3))
    assert pixels is not None
    assert (pixels == DigitSplit("selection", data.cue, 64).images(np.array([3]))[0].permute(1, 2, 0).numpy()).all()
    assert shown(Image(set="selection", index=10**6)) is None
    assert shown(Image(set="never", index=0)) is None
    write_features(given, plan, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"features.html", "features.json", "features.csv", "features.md"}


def test_a_part_says_so_and_surely_changed_is_one_thing() -> None:
    given = replace(what(12), scope="method ft, images of B", images=1000)
    page, lines = features_page.render(given, noise), changes_table(given).to_pylist()
    assert "what changed (method ft, images of B)</h1>" in page
    assert "no change of more than 10 % shown" in page
    assert "of 1,000 images per seed" in page
    wanted = {(f.index, c.method): sure(c, given.alpha) for f in given.features for c in f.changes}
    assert {(line["feature"], line["method"]): line["sure"] for line in lines} == wanted
    assert all(line["effect"] == pytest.approx(2 ** line["mean"]) for line in lines)


def test_report_counts_against_the_frozen_model_and_sorts_beyond_the_control() -> None:
    given = what(12)
    extra = [
        replace(f, changes=(of_control(f).changes[0], replace(f.changes[0], against="mse"))) for f in given.features
    ]
    assert "No feature surely changed" in str(what_changed.section(cast(Any, SimpleNamespace(
        what_changed=replace(given, features=tuple(extra))
    ))))  # fmt: skip
    first = given.features[0]
    moved = replace(first, changes=tuple(
        replace(c, effect=replace(c.effect, mean=m, control=k, verdict="grew"))
        for c, m, k in zip(first.changes, (3.0, 2.0), (2.9, 1.9), strict=True)
    ))  # fmt: skip
    assert ordered(replace(given, features=(moved, *given.features[3:5])))[0] != moved


def test_report_sorts_by_what_changed_against_the_frozen_model() -> None:
    small, large = (next(f for f in what().features if sure(f.changes[0], 0.05) and gap(f.changes[0]) > least)
                    for least in (0.0, 1.2))  # fmt: skip
    against = replace(against_ft(3), effect=replace(against_ft(3).effect, mean=3.0, verdict="grew"))
    given = replace(what(), features=(replace(small, changes=(*small.changes, against)), large))
    assert ordered(given)[0].index == small.index
    assert told_in_report(given)[0].note.startswith(f"feature {large.index} ")


def test_shortcut_features_are_on_cards_with_their_numbers() -> None:
    section = str(what_changed.section(cast(Any, SimpleNamespace(what_changed=seven_on_navy()))))
    assert "seven (1, 9) ← navy" in section
    assert "seven (1)" in section


def test_head_names_the_strongest_features_in_the_order_of_the_file_and_how_steady_they_are() -> None:
    given = what(12)
    said = sentences(given.readings, given.alpha, given.least, given.features)
    assert [s.split()[0] for s in said[:2]] == ["The", "sae_ft"]
    assert "Strongest beyond that: " in said[2]
    assert "×" in said[2]
    assert any("of 5 other SAE seeds" in s for s in said)
