"""Guards' and exams' settings in the journal."""

from __future__ import annotations

from journal_factory import record

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.journal_findings import journal_findings
from s3lora_serve.control.journal.journal_proof import examined, proved
from s3lora_serve.control.safety_changes import OFF, write_safety_changes
from s3lora_serve.storage.canonical_json import canonical_digest

REFUSE = {"action": "refuse", "by": ["base"], "seconds": 30.0}
OBSERVE = {"action": "observe", "by": ["base", "endpoint"], "seconds": 30.0}


def written(journal: Journal) -> list[tuple[str | None, str]]:
    """Planner and reason of each entry about a guard."""
    return [(each.planner, each.reason) for each in journal.entries() if each.action == "guard.changed"]


def test_only_what_changed_is_written(tmp_path):
    """Nothing for a planner that never had a guard; else once for each change, also back to none."""
    starts = [
        ({"a": OFF, "b": OFF}, []),
        ({"a": REFUSE, "b": OFF}, [("a", "guard: off, now refuse by base")]),
        ({"a": REFUSE, "b": OFF}, []),
        (
            {"a": REFUSE | {"seconds": 5}, "b": OBSERVE},
            [("a", "guard: refuse by base, with another seconds")],
        ),
        ({"b": OFF}, [("b", "guard: observe by base and endpoint, now off")]),
        ({"a": REFUSE | {"seconds": 5.0}, "b": OFF}, []),
    ]
    starts[3][1].append(("b", "guard: off, now observe by base and endpoint"))
    said = []
    for settings, new in starts:
        with Journal(tmp_path / "state.db") as journal:
            assert write_safety_changes(journal, "guard", settings) == len(new)
            said += new
            assert written(journal) == said


def test_an_entry_holds_both_digests_and_the_settings(tmp_path):
    """What was in force at any time can be read from the journal; its own digests are of revisions."""
    with Journal(tmp_path / "state.db") as journal:
        write_safety_changes(journal, "guard", {"a": REFUSE})
        write_safety_changes(journal, "guard", {"a": OBSERVE})
        (entry,) = journal.latest("guard.changed")
        assert entry.details == {
            "from": canonical_digest(REFUSE),
            "to": canonical_digest(OBSERVE),
            "settings": OBSERVE,
        }
        assert journal.digests() == set()


def test_what_serves_is_proved_as_before(tmp_path):
    """The entry decides about no planner's revision, wherever it stands, and an audit finds all well."""
    with Journal(tmp_path / "state.db") as journal:
        mine = record("a")
        journal.write(NewEntry("me", "planner.serves", "a"), planner=mine)
        before = proved(journal)[0].planners
        write_safety_changes(journal, "guard", {"a": REFUSE, "gone": OBSERVE})
        for found in (proved(journal)[0], examined(journal)[0]):
            assert found.planners == before
            assert found.broken is None
        assert all(finding.ok for finding in journal_findings(journal, None))


def test_guards_and_exams_are_told_apart(tmp_path):
    """A change of one is none of the other, and an entry says which it was."""
    with Journal(tmp_path / "state.db") as journal:
        assert write_safety_changes(journal, "exam", {"a": {"action": "refuse", "attacks": 200}}) == 1
        assert write_safety_changes(journal, "guard", {"a": OFF}) == 0
        assert write_safety_changes(journal, "exam", {"a": {"action": "refuse", "attacks": 100}}) == 1
        said = [(each.action, each.reason) for each in journal.entries()]
    assert said == [
        ("exam.changed", "exam: off, now refuse"),
        ("exam.changed", "exam: refuse, with another attacks"),
    ]
