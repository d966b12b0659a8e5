"""Colours of the report: of its text and of each scorer, in light and dark themes."""

from __future__ import annotations

from typing import Final

Dashes = str | tuple[int, tuple[int, ...]]

PAPER, INK, FAINT, GRID, SHADE = "#ffffff", "#1d232b", "#5b6673", "#d9dee4", "#f2f2f2"
RANDOM = "#7f7f7f"
BASE = "#12805c"

# Figures are drawn in the colours of the day; in a page each is a variable with a value for the night.
# Okabe and Ito's hues, told apart in every common form of colour blindness, the bright ones darkened until
# they stand out from white (3:1); shape and dashes say the same as colour.
_BY_NIGHT: Final = {
    PAPER: "#14181d",
    INK: "#e6eaef",
    "#000000": "#e6eaef",  # matplotlib's own ink
    FAINT: "#a3aebb",
    GRID: "#333c47",
    SHADE: "#232a32",
    RANDOM: "#a0a0a0",
    BASE: "#4cc79b",
    "#0072b2": "#4ba8e0",
    "#d55e00": "#f07f2e",
    "#00865f": "#22c292",
    "#b5558c": "#e08fbd",
    "#a87400": "#e8ac2c",
    "#2f8fcc": "#9bd3f5",
    "#6a51a3": "#b3a0e0",
}
_SCORERS: Final[dict[str, tuple[str, str, Dashes]]] = {
    "mas-svd": ("#0072b2", "o", "-"),
    "svd": ("#d55e00", "s", "--"),
    "spsvd": ("#00865f", "^", "-."),
    "reference": ("#b5558c", "D", ":"),
    "e-diem": ("#a87400", "v", (0, (5, 1))),
    "safelora": ("#2f8fcc", "P", (0, (3, 1, 1, 1))),
    "random": (RANDOM, "X", (0, (1, 1))),
}
_OTHER: Final[tuple[str, str, Dashes]] = ("#6a51a3", "h", (0, (7, 2)))


def looks(scorer: str) -> tuple[str, str, Dashes]:
    """Colour, marker and dashes of a scorer, or of a policy whose label begins with it, in every chart.

    Those not known here share one look.
    """
    return _SCORERS.get(scorer.partition(" ")[0], _OTHER)


def variable(colour: str) -> str | None:
    """The CSS expression for a colour of the day; None for colours that are the same at night."""
    return f"var(--c{colour[1:]})" if colour in _BY_NIGHT else None


def stylesheet() -> str:
    """CSS that gives the variables their values: dark on dark screens, light elsewhere and on paper."""
    day, night = (
        "".join(f"--c{day[1:]}:{value};" for day, value in pairs)
        for pairs in (((day, day) for day in _BY_NIGHT), _BY_NIGHT.items())
    )
    return (
        f":root{{color-scheme:light dark;{day}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}"
    )
