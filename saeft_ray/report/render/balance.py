"""What each method took from the features and gave to them, as bars on both sides of zero."""

from matplotlib.figure import Figure

from saeft_ray.features.content import Movement, WhatChanged
from saeft_ray.report.numbers import percent
from saeft_ray.report.render.plots import INK, Plot, plain, style, to_svg

# From zero outwards on each side; the colours are those of features that shrank and that grew.
_LOST = (("weakened", "#7fa3d9"), ("removed", "#2a62b0"))
_GAINED = (("strengthened", "#e8b27a"), ("added", "#b85c00"))


def draw(what: WhatChanged) -> Plot | None:
    """Shares of the mass before, a line per method; None where no method was read."""
    movements = what.readings[0].movements if what.readings else ()
    if not movements:
        return None
    with style("balance"):
        figure = Figure(figsize=(6.0, 1.15 + 0.36 * len(movements)))
        axes = figure.subplots()
        for y, movement in enumerate(movements):
            for sign, parts in ((-1, _LOST), (1, _GAINED)):
                at = 0.0
                for name, colour in parts:
                    width = sign * 100 * float(getattr(movement, name))
                    axes.barh(y, width, 0.62, at, color=colour, label=name if y == 0 else None)
                    at += width
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(movements)), [plain(m.method) for m in movements])
        axes.set_ylim(len(movements) - 0.4, -0.6)
        ends = axes.get_xticks()
        axes.set_xticks(ends, [f"{abs(end):g}" for end in ends])
        axes.set_xlabel("lost ←   % of the mass before   → gained")
        axes.tick_params(axis="y", length=0)
        axes.spines[["left", "right", "top"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        order = [labels.index(name) for name in ("removed", "weakened", "strengthened", "added")]
        axes.legend([handles[k] for k in order], [labels[k] for k in order], ncols=4, loc="lower center",
                    bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=9, handlelength=1)  # fmt: skip
        return to_svg(figure, "balance", "; ".join(map(_spoken, movements)))


def _spoken(m: Movement) -> str:
    parts = ", ".join(f"{name} {percent(getattr(m, name))} %" for name, _ in (*_GAINED, *_LOST))
    return f"{m.method}: {parts} of the mass before"
