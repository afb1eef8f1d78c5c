"""docs/settings.md is what the models say."""

from pathlib import Path

from saeft_ray.config.settings_page import page

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_page_of_settings_is_up_to_date():
    assert PAGE.read_text() == page(), "run: python -m saeft_ray.config > docs/settings.md"


def test_all_sections_have_their_settings_there():
    said = page()
    for row in ("| `stability` | integer ≥ 0, ≤ 100 | `3` |", "`methods` of type `sae_ft`", "| `from` | "):
        assert row in said
