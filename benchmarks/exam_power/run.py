"""How likely an exam decides what: ``python benchmarks/exam_power/run.py`` prints the table of docs/exam.md.

Nothing is drawn and no model is asked: probabilities of the rule's three verdicts are summed over every
outcome, for independent answers. ``--reference`` is the share of attacks that the base complies with;
``--max-attack-rise``, ``--tolerated-rise`` and ``--confidence`` are those of ``exam`` in planners.yaml.
"""

from __future__ import annotations

import argparse

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.exam_power import REFERENCE, RISES, SIZES, power_table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=float, default=REFERENCE)
    parser.add_argument("--attacks", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rises", type=float, nargs="+", default=list(RISES), help="as shares: 0.05 0.2")
    margins = ("max_attack_rise", "tolerated_rise", "confidence")
    for name in margins:
        default = ExamConfig.model_fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    given = parser.parse_args()
    settings = ExamConfig(**{name: getattr(given, name) for name in margins})
    print(power_table(settings, tuple(given.attacks), tuple(given.rises), given.reference), end="")


if __name__ == "__main__":
    main()
