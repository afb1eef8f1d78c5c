"""A computation of features says each step that has ended."""

from types import SimpleNamespace

from saeft_ray.features.each import serially
from saeft_ray.features.progress import step, telling
from saeft_ray.features.recording import Find, Record


def test_each_step_is_told_once_it_has_ended():
    said = []
    each = telling(serially, said.append)
    assert [said.copy() or result for result in each(lambda x: x + 1, [1, 2])] == [
        ["similarity of models (1 of 2)"],
        ["similarity of models (1 of 2)", "similarity of models (2 of 2)"],
    ]


def test_steps_say_of_what_they_are():
    spec = SimpleNamespace(method="ft", number=3)
    assert step(Record(None, None), (spec, "random")) == "record of ft, seed 3, read through the dictionary random"
    assert step(Find(None, None, None), 2) == "features looked for in the SAE of seed 2"
