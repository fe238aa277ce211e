"""The pages of the claims: the verdicts, a section for each claim with its figure, and the table in the README."""

from bn_keras.experiments.claims.catalog import all_claims
from bn_keras.experiments.claims.claim import Claim, Finding
from bn_keras.experiments.claims.page import INTERVALS, command_of
from bn_keras.experiments.claims.run import work_of
from bn_keras.experiments.claims.stored import Stored, finding_of, read_claim
from bn_keras.lab import plot
from bn_keras.lab.markdown import facts, table
from bn_keras.lab.results import digest_of
from bn_keras.pages.registry import Request

PAGE = "docs/claims/README.md"


def files(request: Request) -> dict[str, str]:
    """The page and its figures, by name."""
    claims = [(claim, read_claim(claim, request.results)) for claim in all_claims()]
    figures = {f"{claim.id}.svg": figure_of(claim, stored) for claim, stored in claims}
    return figures | {"README.md": page_text(claims)}


def verdicts(request: Request) -> str:
    """The table of the README: what the page says at length."""
    rows = []
    for claim in all_claims():
        finding = finding_of(claim, read_claim(claim, request.results))
        rows.append((link_to(claim, PAGE), claim.title, finding.verdict, finding.number))
    return table(("", "claim", "verdict", "measured"), rows) + "\n"


def link_to(claim: Claim, page: str = "") -> str:
    """The link to the section of a claim."""
    return f"[{claim.id}]({page}#{claim.id.lower()})"


def figure_of(claim: Claim, stored: Stored) -> str:
    """The figure of a claim."""
    return plot.svg(claim.draw(stored.form, stored.found), digest_of(stored.path))


def page_text(claims: list[tuple[Claim, Stored]]) -> str:
    """All claims on one page."""
    return f"""# The claims about normalization

Each claim has an experiment that one command runs, and a rule that was written before the run. The rule gives the
verdict. {INTERVALS}

```
bn-keras claims --quick        # a sketch of all claims on 8×8 digits, no network
bn-keras claims C8             # one claim, in full
```

{verdict_table(claims)}

All runs together took {seconds_of(claims) / 60:,.0f} minutes of one core.

{table(("measured on", "with", "claims"), machines(claims))}

{"".join(section(claim, stored) for claim, stored in claims)}"""


def seconds_of(claims: list[tuple[Claim, Stored]]) -> float:
    """The time of all cells; cells that claims share count once."""
    cells = {
        work_of(claim, cell): values["seconds"]
        for claim, stored in claims
        for cell, values in stored.found.pairs.values()
    }
    return sum(cells.values())


def machines(claims: list[tuple[Claim, Stored]]) -> list[tuple[str, str, str]]:
    """Each machine with its versions, and the claims that were measured there."""
    ids: dict[tuple[str, str], list[str]] = {}
    for claim, stored in claims:
        place = facts(stored.results["machine"]), facts(stored.results["versions"])
        ids.setdefault(place, []).append(claim.id)
    return [(*place, ", ".join(names)) for place, names in ids.items()]


def verdict_table(claims: list[tuple[Claim, Stored]]) -> str:
    """A row for each claim, linked to its section."""
    rows = []
    for claim, stored in claims:
        finding = finding_of(claim, stored)
        command = f"`{command_of(claim, stored.form)}`"
        rows.append((link_to(claim), claim.title, verdict_text(finding), finding.number, command))
    return table(("", "claim", "verdict", "measured", "command"), rows)


def verdict_text(finding: Finding) -> str:
    """The verdict, with its conditions."""
    verdict = f"**{finding.verdict}**"
    return f"{verdict}: {finding.conditions}" if finding.conditions else verdict


def section(claim: Claim, stored: Stored) -> str:
    """A claim on the page."""
    finding = finding_of(claim, stored)
    notes = "".join(f"\n- {note}" for note in finding.notes)
    return f"""<a id="{claim.id.lower()}"></a>

## {claim.id}: {claim.title}

{claim.question} Verdict: {verdict_text(finding)}. {finding.because}

![{claim.caption}]({claim.id}.svg)

{claim.caption}

{table(finding.columns, finding.rows)}
{notes}

| | |
| --- | --- |
| method | {claim.method} |
| rule | {claim.rule} |
| refuted by | {claim.refuted_by} |
| published | {claim.literature} |
| source | {claim.source} |
| command | `{command_of(claim, stored.form)}`, {stored.seconds / 60:.0f} minutes of one core |

"""
