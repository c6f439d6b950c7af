"""What came of an experiment's claims, as a table; and all tables of an experiment."""

from __future__ import annotations

from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.report.sweep_tables import sweep_tables
from hf_lgt.experiments.verdicts import judge_claims, overall
from hf_lgt.report.blocks import Number, Row, Table


def result_tables(results: Results) -> list[Table]:
    """All tables of an experiment, the summary first, then what came of its claims."""
    tables = sweep_tables(results.manifest, results.cells)
    verdicts = verdict_table(results)
    return [*tables[:1], verdicts, *tables[1:]] if verdicts.rows else tables


def verdict_table(results: Results) -> Table:
    """A row a claim and setting, see `hf_lgt.experiments.verdicts`."""
    findings = judge_claims(results.claims, results.cells)
    rows = [
        Row(
            (f.setting, f.claim.words, f.seeds, Number(f.higher), Number(f.lower),
             Number(f.difference, *f.interval),
             f.verdict),
            f.runs,
        )
        for f in findings
    ]  # fmt: skip
    verdict = f": {overall(findings)}" if findings else ""
    return Table(
        "verdicts",
        f"What came of the claims{verdict}",
        ("setting", "claim", "seeds", "setting's", "other's", "difference", "verdict"),
        tuple(rows),
    )
