"""From runs to figures: medians, ranges, ratios of the same run, and the targets they are held against."""
import statistics

# The peer's figure may come from another of its scenarios: testpmd does not upgrade, it only forwards.
# name: (scenario, field, unit, is more better?, {peer: target of the ratio or None}, {peer: its scenario})
MEASURES = {
    "upgraded_rate": ("upgraded", "rate", "sessions/s", True, {"stunnel": 2.0, "haproxy_tls": None, "nginx": None, "postfix": None}, {}),
    "upgraded_resumed_rate": ("upgraded_resumed", "rate", "sessions/s", True, {"stunnel": None, "haproxy_tls": None, "nginx": None}, {}),
    "upgraded_cpu": ("upgraded", "cpu", "s/1000", False, {"stunnel": 0.45, "haproxy_tls": None, "nginx": None, "postfix": None, "bare": 1.4}, {}),
    "upgraded_resumed_cpu": ("upgraded_resumed", "cpu", "s/1000", False, {"stunnel": 0.35, "haproxy_tls": None, "nginx": None, "bare": 1.6}, {}),
    "upgraded_machine_cpu": ("upgraded", "machine", "s/1000", False, {"stunnel": None, "haproxy_tls": None, "nginx": None, "postfix": None}, {}),
    "upgraded_resumed_machine_cpu": ("upgraded_resumed", "machine", "s/1000", False, {"stunnel": None, "haproxy_tls": None, "nginx": None}, {}),
    "upgraded_latency_p50": ("upgraded", "p50_us", "us/session", False, {"stunnel": None, "haproxy_tls": None, "nginx": None}, {}),
    "upgraded_bulk": ("upgraded_bulk", "mb_s", "MB/s", True, {"testpmd": 0.9, "stunnel": None, "haproxy_tls": None, "nginx": None},
                      {"testpmd": "plain_bulk"}),
    "upgraded_bulk_cpu": ("upgraded_bulk", "cpu_gb", "s/GB", False, {"stunnel": 1.0, "haproxy_tls": None, "nginx": None}, {}),
    "upgraded_memory": ("upgraded_memory", "bytes", "B/session", False, {"stunnel": None, "haproxy_tls": None, "nginx": None}, {}),
    "sealed_rate": ("sealed", "rate", "sessions/s", True, {"direct": 0.95, "bridge": 0.95, "testpmd": None, "haproxy_tcp": None}, {}),
    "sealed_cpu": ("sealed", "cpu", "s/1000", False, {"haproxy_tcp": 0.3, "testpmd": None}, {}),
    "sealed_machine_cpu": ("sealed", "machine", "s/1000", False, {"direct": None, "bridge": None, "testpmd": None, "haproxy_tcp": None}, {}),
    "sealed_bulk": ("sealed_bulk", "gbit_s", "Gbit/s", True, {"direct": None, "bridge": 1.0, "testpmd": 1.3, "haproxy_tcp": None}, {}),
    "sealed_latency_p50": ("latency", "p50_us", "us", False, {"direct": None, "bridge": None, "testpmd": None, "haproxy_tcp": None}, {}),
    "sealed_latency_p99": ("latency", "p99_us", "us", False, {"direct": None, "bridge": None, "testpmd": None, "haproxy_tcp": None}, {}),
    "flooded_latency_p50": ("flooded_latency", "p50_us", "us", False, {"bridge": None}, {}),
    "flooded_latency_p99": ("flooded_latency", "p99_us", "us", False, {"bridge": None}, {}),
    "forward_rate": ("forward", "gbit_s", "Gbit/s", True, {"direct": None, "bridge": 1.0, "testpmd": 1.3}, {}),
    "idle_cpu": ("idle", "cpus", "CPUs", False, {"testpmd": None, "stunnel": None, "haproxy_tcp": None, "nginx": None}, {}),
}
# Targets that are no ratio to a peer: (name, limit, against that peer's figure, or None).
ABSOLUTE = (("sealed_latency_p50", 30, "bridge"), ("sealed_latency_p99", 200, "bridge"), ("upgraded_memory", 48 * 1024, None))
BARE = {"upgraded_cpu": "tls_bare_full", "upgraded_resumed_cpu": "tls_bare_resumed"}  # us a handshake = ms/1000 sessions
OWNED = "owned_"             # the same measures with ports owned by DPDK
# In-process benches: the figure that another is held against, and the target of the ratio.
MICRO_PEERS = {"tls_client_full": ("tls_bare_full", None), "tls_client_resumed": ("tls_bare_resumed", None)}

# Targets of in-process benches: (bench, n, limit, None or the n whose figure it is divided by, is more better?)
MICRO_TARGETS = (("classifier_and_worker_sealed", 1000000, 175, None, False), ("classifier_and_worker_sealed", 1000000, 1.5, 1000, False),
                 ("bytes_sealed_flow", 0, 256, None, False), ("flow_bytes", 10000000, 1.1, 1000000, False), ("flow_find", 10000000, 2, 1000000, False),
                 ("flow_age", 10000000, 2, 1000000, False), ("worker_sessions", 2, 1.8, 1, True),
                 *((f"policy_{name}_cold", 100000, 1.5, 1000, False) for name in ("domain", "domain_none", "dane", "server", "sts", "probed", "seen")),
                 ("policy_prefix_cold", 1000000, 1.5, 1000, False), ("policy_prefix6_cold", 1000000, 1.5, 1000, False))


def figure(results, middle, scenario, field):
    """(median, least, most), or None where a run was wrong or there was none."""
    runs = results.get(middle, {}).get(scenario, [])
    if not runs or any(run["wrong"] or run.get(field) is None for run in runs):
        return None
    values = [run[field] for run in runs]
    return statistics.median(values), min(values), max(values)


def micro_figure(lines, bench, n=None):
    for line in lines:
        if line["bench"] == bench and n in (None, line["n"]) and line["value"] is not None:
            return line["value"], line["min"], line["max"]
    return None


def entry(name, unit, figures, peer="", other=None):
    value, least, most = figures
    ratio = round(value / other[0], 4) if other and other[0] else None
    return {"name": name, "unit": unit, "value": round(value, 6), "min": round(least, 6), "max": round(most, 6), "peer": peer, "ratio": ratio}


def entries(results, lines):
    """build/bench.json: one entry for each peer, and one without a peer for a figure that has none."""
    out = []
    for middle, prefix in (("waxseal", ""), ("owned", OWNED)):
        for name, (scenario, field, unit, _, peers, elsewhere) in MEASURES.items():
            ours = figure(results, middle, scenario, field)
            if not ours:
                continue
            made = []
            for peer in peers:
                if peer == "bare":
                    other = micro_figure(lines, BARE[name])
                    other = other and tuple(us / 1000 for us in other)
                else:
                    other = figure(results, peer, elsewhere.get(peer, scenario), field)
                if other:
                    made.append(entry(prefix + name, unit, ours, peer, other))
            out += made or [entry(prefix + name, unit, ours)]
    return out + micro_entries(lines)


def micro_entries(lines):
    out, first = [], {}
    for line in lines:
        if line["value"] is None:
            continue
        figures = (line["value"], line["min"], line["max"])
        name = line["bench"] + (f"_{line['n']}" if line["n"] else "")
        peer, other = "", None
        if line["bench"] in MICRO_PEERS:
            peer, other = "bare", micro_figure(lines, MICRO_PEERS[line["bench"]][0])
        elif line["n"]:
            first.setdefault(line["bench"], line)  # sizes come in ascending order
            if first[line["bench"]] is not line:
                peer, other = f"{line['bench']}_{first[line['bench']]['n']}", (first[line["bench"]]["value"],)
        out.append(entry(name, line["unit"], figures, peer, other))
    return out


# ---- the table ----

def shown(value):
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.4f}"


def rows(grid, left=1):
    """Columns below each other; the first `left` of them flush left, numbers flush right."""
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    return [("  ".join(cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))).rstrip()
            for row in grid]


def verdict(name, peer, ratio):
    more, target = MEASURES[name][3], MEASURES[name][4].get(peer)
    if target is None or ratio is None:
        return "", ""
    return f"{'>=' if more else '<='} {target:g}", "met" if (ratio >= target if more else ratio <= target) else "missed"


def matrix(results):
    """Every middle by every measure: median (least..most)."""
    order = [name for name in results]
    lines = []
    for name, (scenario, field, unit, *_rest) in MEASURES.items():
        grid = []
        for middle in order:
            runs = results[middle].get(scenario)
            if not runs:
                continue
            found = figure(results, middle, scenario, field)
            extra = ""
            if found and field in ("rate", "cpu") and runs[-1].get("busy") is not None:
                extra = f"busy {runs[-1]['busy']:.0%}"
            if found and scenario == "upgraded_resumed" and field == "rate":
                extra = f"{extra} resumed {runs[-1]['resumed']:.0%}".strip()
            wrong = next((run["wrong"] for run in runs if run["wrong"]), "")
            cells = [shown(found[0]), f"{shown(found[1])} .. {shown(found[2])}"] if found else ["wrong", ""]
            grid.append([f"    {middle}", *cells, extra or wrong[:60]])
        if grid:
            lines += [f"  {name}, {unit}", *rows(grid)]
    return lines


def micro_limits(lines):
    out = []
    for bench, n, limit, of, more in MICRO_TARGETS:
        ours, other = micro_figure(lines, bench, n), micro_figure(lines, bench, of) if of is not None else (1,)
        if ours and other:
            value, unit = ours[0] / other[0], "" if of is not None else next(line["unit"] for line in lines if line["bench"] == bench)
            out.append([f"  {bench}" + (f" {n}" if n else "") + (f" / {of}" if of is not None else ""), shown(value), unit,
                        f"{'>=' if more else '<='} {limit:g}", "met" if (value >= limit if more else value <= limit) else "missed"])
    return out


def table(results, lines, made, notes, head):
    out = ["", head, "", "middles"]
    out += rows([[f"  {name}", notes[name]] for name in results], 2) if results else []
    out += ["", "figures: median (least .. most)", *matrix(results)]
    grid = [["  measure", "waxseal", "unit", "peer", "ratio", "target", ""]]
    for one in made:
        plain = one["name"].removeprefix(OWNED)
        if plain in MEASURES and one["peer"]:
            grid.append([f"  {one['name']}", shown(one["value"]), one["unit"], one["peer"], shown(one["ratio"]), *verdict(plain, one["peer"], one["ratio"])])
    out += ["", "ratios: waxseal / peer", *rows(grid)]
    limits = []
    for name, limit, peer in ABSOLUTE:
        scenario, field, unit = MEASURES[name][:3]
        ours, other = figure(results, "waxseal", scenario, field), figure(results, peer, scenario, field) if peer else (0,)
        if ours and other:
            value = ours[0] - other[0]
            limits.append([f"  {name}" + (f" over {peer}" if peer else ""), shown(value), unit, f"<= {limit}", "met" if value <= limit else "missed"])
    limits += micro_limits(lines)
    out += ["", "limits", *rows(limits)] if limits else []
    if lines:
        grid = [["  in-process", "n", "median", "least", "most", "unit"]]
        grid += [[f"  {line['bench']}", str(line["n"] or ""), shown(line["value"]), shown(line["min"]), shown(line["max"]), line["unit"]] for line in lines]
        out += ["", *rows(grid)]
    return "\n".join(out)
