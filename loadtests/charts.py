"""Pictures as SVG text: bars by group, lines over time."""

from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, TOP, RIGHT, BOTTOM = 60, 44, 190, 32
COLOURS = ['#3b6fb6', '#d9822b', '#4c9f70', '#9a5fb4', '#b8443f', '#6b7280']


def bars(title, groups, series):
    """`series`: (name, a value for each group); None where there is none."""
    top = nice(max((value for _, values in series for value in values if value), default=1))
    step = (WIDTH - LEFT - RIGHT) / len(groups)
    width = 0.7 * step / len(series)
    shapes = axis(top)
    for at, group in enumerate(groups):
        x = LEFT + at * step
        shapes.append(text(x + step / 2, HEIGHT - BOTTOM + 18, group, 'middle'))
        for which, (_, values) in enumerate(series):
            if values[at] is None:
                continue
            tall = values[at] / top * (HEIGHT - TOP - BOTTOM)
            left, y = x + 0.15 * step + which * width, HEIGHT - BOTTOM - tall
            shapes.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{width - 2:.1f}" '
                          f'height="{tall:.1f}" fill="{COLOURS[which]}"/>')
            shapes.append(text(left + width / 2 - 1, y - 4, f'{values[at]:,}', 'middle'))
    return picture(title, shapes, [name for name, _ in series])


def lines(title, series):
    """`series`: (name, a value for each second)."""
    top = nice(max((value for _, values in series for value in values), default=1))
    seconds = max(2, *(len(values) for _, values in series))
    shapes = axis(top)
    for tick in range(0, seconds, max(1, seconds // 6)):
        x = LEFT + tick / (seconds - 1) * (WIDTH - LEFT - RIGHT)
        shapes.append(text(x, HEIGHT - BOTTOM + 18, f'{tick} s', 'middle'))
    for which, (_, values) in enumerate(series):
        points = ' '.join(
            f'{LEFT + at / (seconds - 1) * (WIDTH - LEFT - RIGHT):.1f},'
            f'{HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM):.1f}'
            for at, value in enumerate(values))
        shapes.append(f'<polyline points="{points}" fill="none" '
                      f'stroke="{COLOURS[which % len(COLOURS)]}" stroke-width="1.6"/>')
    return picture(title, shapes, [name for name, _ in series])


def nice(most):
    """The next 1, 2 or 5 times a power of ten."""
    unit = 10.0 ** -3
    while True:
        for factor in (1, 2, 5):
            if most <= factor * unit:
                return factor * unit
        unit *= 10


def axis(top):
    shapes = []
    for part in range(5):
        y = HEIGHT - BOTTOM - part / 4 * (HEIGHT - TOP - BOTTOM)
        shapes.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                      'stroke="#d5d9e0"/>')
        shapes.append(text(LEFT - 8, y + 4, f'{top * part / 4:g}', 'end'))
    return shapes


def text(x, y, content, anchor, more=''):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>'
            f'{escape(str(content))}</text>')


def picture(title, shapes, names):
    for at, name in enumerate(names):
        y = TOP + 20 * at
        shapes.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{y}" width="12" height="12" '
                      f'fill="{COLOURS[at % len(COLOURS)]}"/>')
        shapes.append(text(WIDTH - RIGHT + 34, y + 10, name, 'start'))
    body = '\n'.join([text(LEFT, 24, title, 'start', ' font-weight="bold"'), *shapes])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12" fill="#2b2f36">\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n')
