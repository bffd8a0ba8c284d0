"""`reconcile`, `du` and `prune`."""

import click

from stratavore.cli import humane
from stratavore.cli.asking import change, read
from stratavore.cli.consent import consent
from stratavore.cli.options import json_option, yes_option
from stratavore.cli.output import say, show_facts, show_json, show_table
from stratavore.cli.quantities import SPAN

LARGEST = 10


@click.command
@json_option
def reconcile(as_json: bool) -> None:
    """Compare what is recorded with what runs, now."""
    found = change("reconcile")
    if as_json:
        show_json(found)
        return
    say(f"{humane.plural(found['examined'], 'runner')} examined, {found['changed']} changed")
    for word in ("lost", "adopted"):
        if found[word]:
            say(f"{word}: {', '.join(found[word])}")


@click.command
@json_option
def du(as_json: bool) -> None:
    """What Stratavore keeps on the disk."""
    found = read("disk_use")
    if as_json:
        show_json(found)
        return
    show_facts(
        [
            ("database", humane.size(found["database_bytes"])),
            ("output", humane.size(found["output_bytes"])),
            ("transcripts", humane.size(found["transcript_bytes"])),
            ("other", humane.size(found["other_bytes"])),
        ]
    )
    largest = sorted(found["by_runner"].items(), key=lambda pair: -pair[1])[:LARGEST]
    if largest:
        print()
        show_table(("RUNNER", "OUTPUT"), [[runner, humane.size(size)] for runner, size in largest])


@click.command
@click.option("--older-than", metavar="T", type=SPAN, help="Older than T, such as 7d; else as configured.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@yes_option
@json_option
def prune(older_than: float | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove ended runners with their output, events, and copies of transcripts that are older than the retention."""
    if not dry_run and not yes:
        would = change("prune", older_than_seconds=older_than, dry_run=True)
        runners, size = humane.plural(would["runners"], "runner"), humane.size(would["bytes"])
        consent(f"This removes {runners} ({size}), and events older than the retention.", yes)
    pruned = change("prune", older_than_seconds=older_than, dry_run=dry_run)
    if as_json:
        show_json(pruned)
        return
    would_be = "would be " if dry_run else ""
    say(
        f"{humane.plural(pruned['runners'], 'runner')} and {pruned['events']} events {would_be}removed,"
        f" {humane.size(pruned['bytes'])}"
    )
