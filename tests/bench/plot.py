"""The plots, as SVG written by hand: one of bars for each measure, with the range of the runs; one of cost by size."""
import math

from .figures import MEASURES, figure

WIDTH, BAR, LEFT, RIGHT, TOP = 640, 26, 130, 90, 46
OURS, PEER, RANGE, TEXT = "#1b6e53", "#9aa5ad", "#333", "font-family='sans-serif' font-size='12' fill='#222'"


def shown(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x, y, what, anchor="start", more=""):
    what = str(what).replace("&", "&amp;").replace("<", "&lt;")
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {TEXT} {more}>{what}</text>"


def page(height, parts):
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'>\n"
            f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>\n" + "\n".join(parts) + "\n</svg>\n")


def bars(name, unit, more, found):
    """`found`: [(middle, (median, least, most))]."""
    most = max(values[2] for _, values in found) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [text(10, 20, f"{name} ({unit}, {'more' if more else 'less'} is better)", more="font-weight='bold'"),
             text(10, 36, "bar: median; line: least to most of the runs")]
    for i, (middle, (median, least, greatest)) in enumerate(found):
        y = TOP + i * BAR
        middle_y = y + BAR / 2 - 2
        parts.append(text(LEFT - 8, middle_y + 4, middle, "end"))
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{max(median * scale, 1):.1f}' height='{BAR - 6}' fill='{OURS if middle in ('waxseal', 'owned') else PEER}'/>")
        parts.append(f"<path d='M{LEFT + least * scale:.1f} {middle_y:.1f}H{LEFT + greatest * scale:.1f}' stroke='{RANGE}' stroke-width='2'/>")
        parts.append(text(LEFT + greatest * scale + 6, middle_y + 4, shown(median)))
    return page(TOP + len(found) * BAR + 12, parts)


def curves(lines):
    """Cost by size, both axes logarithmic; every in-process bench that has more than one size."""
    series = {}
    for line in lines:
        if line["n"] and line["value"]:
            series.setdefault(f"{line['bench']} ({line['unit']})", []).append((line["n"], line["value"]))
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return None
    xs = [math.log10(n) for points in series.values() for n, _ in points]
    ys = [math.log10(value) for points in series.values() for _, value in points]
    low, high = math.floor(min(ys)), math.ceil(max(ys)) or 1
    height, right = 420, 250

    def at(n, value):
        x = 60 + (math.log10(n) - min(xs)) / ((max(xs) - min(xs)) or 1) * (WIDTH - 60 - right)
        return x, height - 40 - (math.log10(value) - low) / ((high - low) or 1) * (height - 90)
    parts = [text(10, 20, "in-process cost by number of entries", more="font-weight='bold'")]
    for power in range(low, high + 1):
        _, y = at(10 ** min(xs), 10 ** power)
        parts += [f"<path d='M60 {y:.1f}H{WIDTH - right}' stroke='#ddd'/>", text(54, y + 4, shown(10 ** power), "end")]
    for n in sorted({n for points in series.values() for n, _ in points}):
        parts.append(text(at(n, 10 ** low)[0], height - 20, f"{n:,}", "middle"))
    last = 0
    for i, (name, points) in enumerate(sorted(series.items(), key=lambda item: -item[1][-1][1])):
        colour = f"hsl({i * 360 // len(series)},60%,40%)"
        where = [at(*point) for point in points]
        parts.append("<path fill='none' stroke='%s' stroke-width='2' d='M%s'/>" % (colour, "L".join(f"{x:.1f} {y:.1f}" for x, y in where)))
        last = max(where[-1][1], last + 14)
        parts.append(text(where[-1][0] + 6, last + 4, name, more=f"style='fill:{colour}'"))
    return page(height, parts)


def draw(folder, results, lines):
    """Writes the plots into the folder; returns how many."""
    count = 0
    for name, (scenario, field, unit, more, _, elsewhere) in MEASURES.items():
        found = []
        for middle in results:
            values = figure(results, middle, elsewhere.get(middle, scenario), field)
            if values:
                found.append((middle if middle not in elsewhere else f"{middle} (plain)", values))
        if found:
            (folder / f"{name}.svg").write_text(bars(name, unit, more, found))
            count += 1
    drawn = curves(lines)
    if drawn:
        (folder / "cost_by_size.svg").write_text(drawn)
        count += 1
    return count
