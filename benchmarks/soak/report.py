"""What a soak came to, as a page."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from measured import MORE_BYTES, MORE_DESCRIPTORS, MORE_MIB, Trend, trend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faults import Outage
    from measured import Sample
    from orders_given import Given
    from requests_made import Outcome


@dataclass(frozen=True)
class Soak:
    """Everything that a run brought. ``well``: nothing lost, stale, failed, unnoticed or grown."""

    engine: str
    minutes: float
    machine: dict[str, str]
    outcomes: Sequence[Outcome]
    given: Sequence[Given]
    hung: Sequence[str]
    outages: Sequence[Outage]
    slow: dict[tuple[str, str], int]
    samples: Sequence[Sample]
    failed: Sequence[Outcome]
    stale: Sequence[Outcome]
    lost: Sequence[Given]
    entries: int
    unbroken: bool
    audit: Sequence[str]
    changed_by_restart: Sequence[str]
    adapters: int
    store_bytes: int
    state_bytes: int

    @property
    def well(self) -> bool:
        """Whether each row of the verdict holds."""
        return all(holds for _, holds, _ in self.verdict())

    def verdict(self) -> list[tuple[str, bool, str]]:
        """What must be, whether it is, and the figures."""
        answered = sum(outcome.status == 200 for outcome in self.outcomes)
        acknowledged = sum(bool(order.id) for order in self.given)
        noticed = [outage for outage in self.outages if not outage.note]
        rows = [
            ("orders lost", not self.lost, f"{len(self.lost)} of {acknowledged} acknowledged"),
            ("stale answers", not self.stale, f"{len(self.stale)} of {answered}"),
            ("failed requests", not self.failed, f"{len(self.failed)} of {len(self.outcomes)}"),
            ("journal unbroken", self.unbroken, f"{self.entries} entries"),
            ("audit, online and of the stopped server", not self.audit, "; ".join(self.audit) or "clean"),
            (
                "served the same after a restart",
                not self.changed_by_restart,
                ", ".join(self.changed_by_restart) or "all planners",
            ),
            (
                "faults noticed and healed",
                len(noticed) == len(self.outages),
                f"{len(noticed)} of {len(self.outages)}",
            ),
        ]
        for what, more, unit, get in _FLAT:
            rows.append(self._flat(what, more, unit, get))
        return rows

    def _flat(
        self, what: str, more: float, unit: str, get: Callable[[Sample], float]
    ) -> tuple[str, bool, str]:
        times = [sample.at - self.samples[0].at for sample in self.samples]
        try:
            found: Trend = trend(times, [get(sample) for sample in self.samples])
        except ValueError as error:
            return what, False, str(error)
        told = f"{found.middle:,.0f} → {found.last:,.0f} {unit} (middle and last third)"
        told += f", {found.per_minute:+.2f} a minute"
        return what, found.flat(more), told


_FLAT: tuple[tuple[str, float, str, Callable[[Sample], float]], ...] = (
    ("memory of the server flat", MORE_MIB, "MiB", lambda sample: sample.rss),
    ("descriptors flat", MORE_DESCRIPTORS, "", lambda sample: float(sample.descriptors)),
    ("/metrics flat", MORE_BYTES, "bytes", lambda sample: float(sample.metrics)),
)


def page(soak: Soak) -> str:
    """Markdown."""
    alive = [sample.alive for sample in soak.samples if sample.alive >= 0]
    silent = len(soak.samples) - len(alive)
    lines = [
        f"# Soak of {soak.minutes:g} minutes, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"Engine {soak.engine}, demo model, {os.cpu_count()} cores; "
        + ", ".join(f"{name} {version}" for name, version in soak.machine.items()),
        "",
        *_table(
            ("must be", "is", "figures"),
            [(what, "yes" if ok else "**no**", told) for what, ok, told in soak.verdict()],
        ),
        *_table(("request", "answered", "left by the client", "refused or failed"), _requests(soak)),
        *_table(("order", "outcome", "times"), _orders(soak)),
        *_table(("fault", "noticed after", "healed after", ""), _outages(soak)),
        *_table(
            ("slow client", "how it ended", "times"),
            [(kind, how, str(count)) for (kind, how), count in sorted(soak.slow.items())],
        ),
        f"`/livez`: median {statistics.median(alive) * 1000:.0f} ms, longest {max(alive) * 1000:.0f} ms,"
        f" {silent} of {len(soak.samples)} without an answer. Source that never answers: "
        + ("; ".join(f"{what} ({count})" for what, count in Counter(soak.hung).items()) or "not tried")
        + f". {soak.adapters} new adapters: store {soak.store_bytes / 2**20:.1f} MiB,"
        f" state {soak.state_bytes / 2**20:.2f} MiB.",
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    told = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [*told, ""] if rows else []


def _requests(soak: Soak) -> list[tuple[str, ...]]:
    rows = []
    for kind in sorted({outcome.kind for outcome in soak.outcomes}):
        of_kind = [outcome for outcome in soak.outcomes if outcome.kind == kind]
        codes = Counter(f"{outcome.status} {outcome.code}" for outcome in of_kind if not outcome.ok)
        well, left = sum(o.ok and not o.left for o in of_kind), sum(o.left for o in of_kind)
        rows.append((kind, str(well), str(left), ", ".join(f"{c} ×{n}" for c, n in codes.items())))
    return rows


def _orders(soak: Soak) -> list[tuple[str, ...]]:
    outcomes = Counter(
        (order.what, f"{order.step or order.status} {order.code}".strip()) for order in soak.given
    )
    return [(what, how, str(count)) for (what, how), count in sorted(outcomes.items())]


def _outages(soak: Soak) -> list[tuple[str, ...]]:
    def after(outage: Outage, at: float) -> str:
        return f"{at - outage.began:.1f} s" if at else "–"

    return [(o.kind, after(o, o.noticed), after(o, o.ended), o.note) for o in soak.outages]
