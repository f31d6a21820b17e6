"""Figures of several runs, for people."""

import statistics
import sys


def medians(runs):
    """Of each figure; what is not there in some run is left out of its median."""
    titles = [title for number, run in enumerate(runs) for title in run if all(title not in r for r in runs[:number])]
    return {title: middle(run.get(title) for run in runs) for title in titles}


def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def cell(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def show(name, title, results):
    """A row for each peer: its figures, or why there are none."""
    print(f"\n{name}: {title}")
    heads = []
    for figures in results.values():
        if not isinstance(figures, str):
            heads += [head for head in figures if head not in heads]
    print(f"  {'':<16}" + "".join(f"{head:>{max(16, len(head) + 2)}}" for head in heads))
    for peer, figures in results.items():
        if isinstance(figures, str):
            print(f"  {peer:<16}  {figures}")
            continue
        print(f"  {peer:<16}" + "".join(f"{cell(figures.get(head)):>{max(16, len(head) + 2)}}" for head in heads))
    sys.stdout.flush()


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
