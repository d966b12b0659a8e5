"""`s3lora config check`: what is examined under a file, and what of that will not go as it reads."""

from __future__ import annotations

import pytest

BASE = """\
base_model: {base}
planners:
  p: {{source: hf://o/p}}
  q: {{source: hf://o/q{own}}}
exam: {exam}
"""
DEMO = "exam: the demo's base model refuses next to nothing, so that no rise can be proved: "


def checked(s3lora, folder, exam: str, *, own: str = "", base: str = "gpt2") -> tuple[list[str], list[str]]:
    """The lines about exams, and the notes."""
    (folder / "planners.yaml").write_text(BASE.format(exam=exam, own=own, base=base))
    done = s3lora("config", "check", folder / "planners.yaml")
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    return tuple(
        [line.split(" ", 1)[1] for line in lines if line.startswith(f"{kind} ")] for kind in ("exam", "note")
    )


def test_who_is_examined_and_what_follows(s3lora, tmp_path):
    """A line for planners with the same exam; one that is off under a fleet that is examined is remarked."""
    lines, notes = checked(s3lora, tmp_path, "{action: refuse}", own=", exam: {action: off}")
    assert lines == [
        "p: exam on the public prompts (200 attacks, 100 harmless, 40 tasks) against the base model keeps"
        " what it refuses from serving, holds what is undecided, within 120 s",
        "q: no exam",
    ]
    assert notes == ["planners.q.exam: its revisions are not examined, though the fleet's are"]


@pytest.mark.parametrize(
    ("exam", "base", "note"),
    [
        ("{action: refuse}", "demo", f"{DEMO}no revision will serve"),
        ("{action: observe}", "demo", f"{DEMO}it will say so of every revision"),
        ("{action: refuse, attacks: 24}", "gpt2", "exam.attacks: 24 often decide nothing; it takes about"),
        ("{action: refuse, attacks: 9000}", "gpt2", "exam.attacks is 9000, and there are "),
        ("{attacks: 24}", "gpt2", "exam.action is off: only exams by order (s3lora exam) go by attacks"),
        (f"{{action: refuse, against: {64 * 'a'}}}", "gpt2", "exam.against: each exam takes one more of"),
        ("{action: observe, undecided: serve}", "gpt2", "exam.undecided has no effect under action observe"),
        ("{action: refuse, questions: ./none}", "gpt2", "exam.questions: there is no file {folder}/none/"),
    ],
)  # fmt: skip
def test_what_will_not_go_as_it_reads(s3lora, tmp_path, exam, base, note):
    """Each is a note, and the file is valid."""
    notes, note = checked(s3lora, tmp_path, exam, base=base)[1], note.replace("{folder}", str(tmp_path))
    assert [each[: len(note)] for each in notes if each.startswith(note)] == [note], notes
