"""What a template needs to show features: the drawing of an effect, and the strips of an album."""

from markupsafe import Markup, escape

from saeft_ray.report.render.blocks import EffectLine

WIDTH, _HEIGHT, _MARGIN = 150.0, 16.0, 7.0


def drawing(line: EffectLine, reach: float) -> Markup:
    """The effect with its interval on a log2 axis from -`reach` to `reach`, as SVG; an arrow where it goes beyond."""
    middle = _HEIGHT / 2
    parts = [
        f'<line class="axis" x1="{_MARGIN:g}" x2="{WIDTH - _MARGIN:g}" y1="{middle:g}" y2="{middle:g}"/>',
        f'<line class="zero" x1="{WIDTH / 2:g}" x2="{WIDTH / 2:g}" y1="1" y2="{_HEIGHT - 1:g}" stroke-width="1.5"/>',
    ]
    if line.lo is not None and line.hi is not None:
        lo, hi = _x(line.lo, reach), _x(line.hi, reach)
        parts.append(f'<line x1="{lo:.1f}" x2="{hi:.1f}" y1="8" y2="8" stroke="currentColor" stroke-width="2"/>')
    x = _x(line.mean, reach)
    fill = "currentColor" if line.sure else "var(--paper)"
    if abs(line.mean) > reach:
        tip = 6 if line.mean > 0 else -6
        shape = f'<path d="M{x - tip:.1f},3 L{x:.1f},8 L{x - tip:.1f},13 Z"'
    else:
        shape = f'<circle cx="{x:.1f}" cy="8" r="4"'
    parts.append(f'{shape} fill="{fill}" stroke="currentColor" stroke-width="1.5"/>')
    label = escape(f"{line.label}: {line.text}, {line.note}")
    head = f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH:g} {_HEIGHT:g}">'
    # Numbers and our own tags; the label is escaped.
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704


def _x(value: float, reach: float) -> float:
    inside = min(max(value / reach, -1.0), 1.0)
    return WIDTH / 2 + inside * (WIDTH / 2 - _MARGIN)
