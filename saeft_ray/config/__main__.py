"""`python -m saeft_ray.config`: prints docs/settings.md, every setting of a sweep file."""

from saeft_ray.config.settings_page import page

if __name__ == "__main__":
    print(page(), end="")
