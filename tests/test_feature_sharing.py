"""What newly active images share, on embeddings whose truth is planted."""

import numpy as np
import pytest
from scipy import sparse

from saeft_ray.config.feature_files import read_labels
from saeft_ray.errors import UserError
from saeft_ray.features import labels, sharing, shortcuts


def world(cue, seed):
    """Images with a planted direction (word 3) on a third of them; newly active ones follow it with strength `cue`."""
    generator = np.random.default_rng(seed)
    n, d = 3000, 16
    bank = np.eye(d)[:8]
    has = generator.random(n) < 1 / 3
    x = generator.standard_normal((n, d)) * 0.5 + 2 * has[:, None] * bank[3]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    images = shortcuts.Images(x, np.arange(n) % 2, np.arange(n) % 3 // 2)
    chance = 0.1 + cue * 0.4 * has

    def draw(p):
        return sparse.csc_matrix((generator.random((n, 2)) < np.broadcast_to(p, (2, n)).T).astype(np.float32))

    return images, draw(chance), draw(np.full(n, 0.1)), bank


def reliance(cue, seed):
    images, fresh, control, bank = world(cue, seed)
    other = np.arange(8) >= 2
    often, class_of = np.array([500, 500]), np.array([0, 1])
    found = shortcuts.reliance(images, fresh, control, often, class_of, bank, other, seed)
    return found, class_of, other


def test_a_planted_cue_is_found_and_no_cue_gives_nothing():
    with_cue, without = ([reliance(cue, seed) for seed in range(8)] for cue in (1.0, 0.0))
    values, nothing = (np.array([r[0].value for r in each]) for each in (with_cue, without))
    assert values.min() > 0.3
    assert abs(nothing.mean()) < 0.05
    best = shortcuts.candidates([r[0] for r in with_cue], *with_cue[0][1:])
    assert {(c.cls, c.word) for c in best} == {(0, 3), (1, 3)}


def test_closed_form_variance_is_that_of_permutations():
    images, fresh, _, bank = world(0.0, 1)
    cells = images.labels * 2 + images.sets
    generator, dense = np.random.default_rng(0), fresh.toarray()
    z = []
    for _ in range(200):
        order = np.arange(len(cells))
        for cell in np.unique(cells):
            order[cells == cell] = generator.permutation(order[cells == cell])
        z.append(sharing.shared(images.x, sparse.csc_matrix(dense[order]), cells, bank).z)
    assert abs(np.std(z) - 1) < 0.08
    assert abs(np.mean(z)) < 0.1


def test_beyond_names_the_planted_word_in_every_seed():
    made = [world(1.0, seed) for seed in range(5)]

    def shift(i):
        return np.stack([sharing.shared(m[0].x, m[i], m[0].labels, m[3]).shift for m in made])

    found = sharing.beyond(shift(1), shift(2), np.arange(2))
    assert found.word.tolist() == [3, 3]
    assert (found.q < 0.01).all()
    assert (found.agree == 1).all()


def test_labels_name_features_and_tell_missing_images(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("image,attribute,set\n0,red,a\n1,red,a\n0,blue,b\n99,red,a\n")
    found = labels.labels(read_labels(str(file)), {"a": 3, "b": 2})
    assert found.missing == 1
    assert "line 5" in found.said[0]
    active = sparse.csc_matrix(np.array([[1, 0], [1, 0], [0, 0], [0, 2], [0, 0]]))
    assert [found.attributes[i] for i in labels.named(labels.scores(active, found.member))] == ["red", "blue"]
    file.write_text("image,attribute\n0,\n")
    with pytest.raises(UserError, match="line 2 has no attribute"):
        read_labels(str(file))
    file.write_text('image,attribute,set\n\n0,"striped,\nof two lines",a\n0,red\n')
    with pytest.raises(UserError, match="line 5: 2 cells, but the header has 3"):
        read_labels(str(file))
