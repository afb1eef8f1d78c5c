"""Digit world: pictures are functions of their names, the splits are what they say, the shipped model can see."""

import hashlib
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError

from saeft_ray import datasets
from saeft_ray.config import registry
from saeft_ray.datasets.digit_world import DigitWorld, digits, pretrain
from saeft_ray.datasets.digit_world.captions import VOCABULARY, captions
from saeft_ray.datasets.digit_world.render import Draw, render
from saeft_ray.datasets.digit_world.splits import coverage, members
from saeft_ray.datasets.digit_world.styles import BROAD, HELD_OUT_PAIRS, SHIFTS
from saeft_ray.model.word_tokenizer import WordTokenizer

WEIGHTS = pretrain.MODELS / "digit-clip.safetensors"
WORLD = DigitWorld()


def everything(split: Any) -> np.ndarray:
    return np.arange(len(split.labels))


def digits_of(name: str) -> set[int]:
    """The digits of a split by what they look like, not by what the code calls them."""
    ink = digits.mnist().ink
    return {hash(ink[row].tobytes()) for row in (digits.rows(name) if name in digits.PER_CLASS else members(name).rows)}


def test_the_registry_finds_it() -> None:
    assert registry.discover(datasets, datasets.Dataset, "saeft_ray.datasets")["digit_world"] is DigitWorld


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from saeft_ray.datasets.digit_world import DigitWorld as D\n"
        "d = D(); d.sizes(), d.prompts(), d.class_names(), d.test_sets(), d.fingerprint(), d.problems()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_raw_digits_are_balanced_and_whole() -> None:
    assert np.bincount(digits.mnist().labels).tolist() == [500] * 10
    assert digits.mnist().ink.shape == (5000, 28, 28)
    assert digits.mnist().ink.max() == 255
    assert digits.uci().ink.shape == (digits.UCI_DIGITS, 8, 8)
    assert digits.uci().ink.max() == 16


@pytest.mark.parametrize("view", [3, 1000], ids=["memoised", "drawn one by one"])
def test_a_view_does_not_depend_on_its_batch(view: int) -> None:
    train = WORLD.split("train")
    index = np.array([5, 900, 17, 1499, 5, 3, 77])
    views = np.array([view, 0, view, view, 1, 2, view])
    together = train.views(index, views, seed=11)
    assert together.dtype == torch.uint8
    assert together.shape == (7, 3, 28, 28)
    for i in (0, 3, 4):
        assert torch.equal(together[i : i + 1], train.views(index[i : i + 1], views[i : i + 1], seed=11))
    assert torch.equal(train.images(index[::-1]), train.images(index).flip(0))
    assert torch.equal(together.flip(0), train.views(index[::-1], views[::-1], seed=11))


@pytest.mark.parametrize("style", [BROAD, *SHIFTS.values()], ids=["broad", *SHIFTS])
def test_rendering_a_part_is_a_part_of_the_rendering(style: Any) -> None:
    rows = digits.rows("pretrain")[::40]
    labels, views = digits.mnist().labels[rows], np.zeros_like(rows)
    whole, _ = render(coverage("mnist", rows), labels, style, Draw(3, "test", rows, views))
    for part in (slice(0, 1), slice(1, 14), slice(7, 50)):
        draw = Draw(3, "test", rows[part], views[part])
        assert torch.equal(render(coverage("mnist", rows[part]), labels[part], style, draw)[0], whole[part])


def test_seeds_and_views_and_renderings_differ() -> None:
    train, index = WORLD.split("train"), np.arange(20)
    first = train.views(index, np.zeros(20, np.int64), seed=0)
    for other in (
        train.views(index, np.zeros(20, np.int64), seed=1),
        train.views(index, np.ones(20, np.int64), seed=0),
    ):
        assert (first != other).flatten(1).any(1).all()
    selection = WORLD.split("selection")
    assert (selection.images(index) != selection.images(index + 500)).flatten(1).any(1).all()
    assert np.array_equal(selection.labels[index], selection.labels[index + 500])


def test_splits_share_no_digit() -> None:
    parts = {name: digits_of(name) for name in digits.PER_CLASS}
    assert [len(part) for part in parts.values()] == [2000, 1500, 500, 1000]
    assert len(set().union(*parts.values())) == 5000
    for name in WORLD.test_sets():
        if name != "UCI":
            assert digits_of(name) <= parts["test"]
    assert digits_of("selection") == parts["selection"]


def test_sizes_and_roles_are_those_of_the_splits() -> None:
    sizes = WORLD.sizes()
    assert list(sizes) == ["train", "selection", *WORLD.test_sets()]
    for name, size in sizes.items():
        split = WORLD.split(name)
        assert len(split.labels) == size
        assert split.labels.dtype == np.int64
        pictures = split.images(everything(split))
        assert (pictures.dtype, tuple(pictures.shape)) == (torch.uint8, (size, 3, 28, 28))
    assert list(WORLD.test_sets().values()) == ["id"] + ["ood"] * 7 + ["diagnostic"]


@pytest.mark.parametrize("cue", [0.0, 0.8, 1.0])
def test_the_cue_holds_as_often_as_it_says(cue: float) -> None:
    world = DigitWorld(cue=cue)
    for name, expected in {"train": cue, "selection": cue, "ID": cue, "V2": cue, "Sketch": 0, "A": 0, "ID0": 0}.items():
        split = world.split(name)
        ground = split.attributes(everything(split)).ground
        # Five grounds: without the cue a digit has its own by chance once in five. No ground is told by no digit.
        usual = np.array([np.bincount(ground[split.labels % 5 == group], minlength=6).argmax() for group in range(5)])
        share = (ground == usual[split.labels % 5]).mean()
        assert share == pytest.approx(expected + (1 - expected) / 5, abs=0.05), name


def test_the_diagnostic_set_is_id_without_the_cue() -> None:
    """The same digits, drawn alike but for the ground, which is what ID would have at a cue of 0."""
    given, without, none = WORLD.split("ID"), WORLD.split("ID0"), DigitWorld(cue=0).split("ID")
    index = everything(given)
    assert torch.equal(without.images(index), none.images(index))
    assert torch.equal(without.views(index[:9], index[:9] + 60, 5), none.views(index[:9], index[:9] + 60, 5))
    shows, bare = given.attributes(index), without.attributes(index)
    same = shows.ground == bare.ground
    assert 0.2 < same.mean() < 0.5  # 0.2 drew no cue, and of the others a fifth drew the ground that the cue gives
    assert torch.equal(given.images(index)[torch.from_numpy(same)], without.images(index)[torch.from_numpy(same)])
    assert given.example_order != without.example_order


def test_a_further_set_leaves_the_data_of_older_sweeps_what_they_were() -> None:
    """The fingerprint of before there was ID0: sweeps of then resume, and their embeddings stay."""
    assert WORLD.fingerprint() == WORLD.train_fingerprint() == "a621cc877116cdb3"


def test_the_settings_reach_the_fingerprint() -> None:
    assert WORLD.fingerprint() == DigitWorld(cue=0.8).fingerprint() != DigitWorld(cue=0.5).fingerprint()
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        DigitWorld(cue=1.2)


def test_pretraining_never_sees_the_held_out_colours() -> None:
    rows = np.arange(4000)
    _, shows = render(coverage("mnist", rows), digits.mnist().labels[rows], BROAD, Draw(0, "test", rows, rows * 0))
    seen = set(zip(shows.ink.tolist(), shows.ground.tolist(), strict=True))
    assert len(seen) == 30
    assert not seen & set(HELD_OUT_PAIRS)
    shift = WORLD.split("R")
    shows = shift.attributes(everything(shift))
    assert set(zip(shows.ink.tolist(), shows.ground.tolist(), strict=True)) == set(HELD_OUT_PAIRS)


def test_the_order_is_a_stable_name_for_the_examples() -> None:
    orders = {name: WORLD.split(name).example_order for name in WORLD.sizes()}
    assert len(set(orders.values())) == len(orders)
    assert orders == {name: DigitWorld(cue=0.1).split(name).example_order for name in orders}
    # Results of two machines or releases pair only if this stays: change it together with RENDER_VERSION.
    assert (
        hashlib.sha256("".join(orders[name] for name in ("train", "ID", "UCI")).encode()).hexdigest()[:8] == "612ba85d"
    )


def test_sizes_of_pictures() -> None:
    assert WORLD.split("ID", 56).images(np.arange(3)).shape == (3, 3, 56, 56)
    with pytest.raises(ValueError, match="28 px"):
        WORLD.split("ID", 14)
    with pytest.raises(KeyError, match="no split 'test'"):
        WORLD.split("test")


def test_missing_sources_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WORLD.problems() == []
    monkeypatch.setattr(digits, "find_spec", lambda package: None)
    told = WORLD.problems()
    assert len(told) == 2
    assert all("pip install 'saeft_ray[demo]'" in line for line in told)


def test_captions_tell_the_truth_in_known_words() -> None:
    rows = digits.rows("pretrain")[:500]
    labels = digits.mnist().labels[rows]
    draw = Draw(0, "test", rows, rows * 0)
    _, shows = render(coverage("mnist", rows), labels, BROAD, draw)
    texts = captions(labels, shows, draw)
    tokenize = pretrain.tokenizer()
    assert tokenize.decode(tokenize(texts)) == texts
    assert all(WORLD.class_names()[label] in text.split() for label, text in zip(labels, texts, strict=True))
    mentioned = sum("background" in text for text in texts) / len(texts)
    assert mentioned == pytest.approx(0.5, abs=0.1)
    assert (pretrain.MODELS / "digit-clip.words.txt").read_text().split() == list(VOCABULARY)


def test_words_become_tokens_and_come_back() -> None:
    tokenize = WordTokenizer(["<pad>", "a", "seven", "<start>", "<end>"], 6)
    assert tokenize("A seven.").tolist() == [[3, 1, 2, 4, 0, 0]]
    assert tokenize([]).shape == (0, 6)
    tokens = tokenize(["a seven", "seven"])
    assert (tokens.dtype, tuple(tokens.shape)) == (torch.int64, (2, 6))
    assert tokenize.decode(tokens) == ["a seven", "seven"]
    assert (tokens.argmax(1) == torch.tensor([3, 2])).all()


def test_what_the_tokenizer_refuses(tmp_path: Path) -> None:
    place = tmp_path / "model.words.txt"
    place.write_text("<pad>\na\nseven\n<start>\n<end>\n")
    tokenize = WordTokenizer.read(place, 6)
    with pytest.raises(ValueError, match=r"no word 'eleven'.*model\.words\.txt"):
        tokenize("a eleven")
    with pytest.raises(ValueError, match="at most 4"):
        tokenize("a a a a seven")
    with pytest.raises(ValueError, match="close with <end>"):
        WordTokenizer(["<pad>", "<start>", "<end>", "a"], 6)
    with pytest.raises(ValueError, match="twice"):
        WordTokenizer(["<pad>", "a", "a", "<start>", "<end>"], 6)


@lru_cache(maxsize=1)
def shipped() -> Any:
    pretrain.new_model()  # registers the configuration
    return open_clip.create_model("digit-clip", pretrained=str(WEIGHTS)).eval()


def test_the_shipped_model_reads_digits_and_finds_sketches_harder() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    model, tokenize = shipped(), pretrain.tokenizer()
    with torch.no_grad():
        head = torch.stack(
            [
                torch.nn.functional.normalize(
                    model.encode_text(tokenize([prompt.format(name) for prompt in WORLD.prompts()])), dim=-1
                ).mean(0)
                for name in WORLD.class_names()
            ]
        )
        accuracy = {}
        for name in ("ID", "Sketch"):
            split = WORLD.split(name)
            features = model.encode_image((split.images(everything(split)).float() / 255 - 0.5) / 0.5)
            answers = (features @ torch.nn.functional.normalize(head, dim=-1).T).argmax(1)
            accuracy[name] = (answers.numpy() == split.labels).mean()
    assert accuracy["ID"] >= 0.8
    assert 0.4 < accuracy["Sketch"] < accuracy["ID"] - 0.1


def test_the_shipped_weights_are_those_of_the_readme() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in (pretrain.MODELS / "README.md").read_text()


def test_pretraining_learns_and_does_not_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["pretrain", "--steps", "2", "--out", str(tmp_path / "new.safetensors")]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(pretrain, "VIEWS", 1)
    pretrain.main()
    before = (tmp_path / "new.safetensors").read_bytes()
    with pytest.raises(SystemExit):
        pretrain.main()
    assert (tmp_path / "new.safetensors").read_bytes() == before
