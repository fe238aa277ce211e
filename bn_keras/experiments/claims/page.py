"""The HTML page of the claims: the table of the verdicts, then a section for each claim."""

import os
import pathlib
import shlex
from collections.abc import Iterable

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Claim, Finding, Form
from bn_keras.experiments.claims.stored import FILE, Stored, finding_of
from bn_keras.lab.html import (
    BAD,
    GOOD,
    PARTLY,
    Code,
    Command,
    Details,
    Facts,
    Items,
    Link,
    Mark,
    Page,
    Paragraph,
    Picture,
    Section,
    Table,
    to_html,
)
from bn_keras.lab.markdown import facts
from bn_keras.lab.plot import svg
from bn_keras.lab.results import write_whole

PAGE = "index.html"
INTERVALS = (
    "A measured figure is the median over the seeds, with the lowest and the highest seed in parentheses, unless the "
    "method of its claim names another interval."
)
KINDS = {HOLDS: GOOD, CONDITIONALLY: PARTLY, FAILS: BAD}


def write_page(measured: Iterable[tuple[Claim, Stored]], folder: str | os.PathLike) -> pathlib.Path:
    """Writes the results of claims as one HTML page.

    Args:
        measured: The claims, each with its complete measurements.
        folder: Where the page goes; `write_page` creates it.

    Returns:
        The path of the page, `folder/index.html`. The same results give the same bytes.
    """
    path = pathlib.Path(folder) / PAGE
    write_whole(path, to_html(page_of(measured)))
    return path


def page_of(measured: Iterable[tuple[Claim, Stored]]) -> Page:
    """Claims with their measurements as a page."""
    judged = [(claim, stored, finding_of(claim, stored)) for claim, stored in measured]
    rows = tuple(
        (
            Link(claim.id, section_id(claim)), claim.title, mark_of(finding), finding.number, claim.literature,
            Command(command_of(claim, stored.form)),
        )
        for claim, stored, finding in judged
    )  # fmt: skip
    caption = "Each claim with its verdict, the measured and the published figures, and the command that measures it"
    table = Table(caption, ("id", "claim", "verdict", "measured", "published", "command"), rows)
    sections = (
        Section("verdicts", "Verdicts", (table, Paragraph(INTERVALS))),
        *(claim_section(*each) for each in judged),
    )
    lead = lead_of([stored.form for _, stored, _ in judged])
    return Page("Claims about normalization", lead, sections, contents=False)


def lead_of(forms: list[Form]) -> str:
    """What the page shows, and on which sizes it stands."""
    words = (
        "Each claim comes from the literature. A measurement tests it, and a rule that was written before the "
        "measurement turns the figures into a verdict."
    )
    sketch = " These measurements are small and quick, so the verdicts are sketches."
    return words + sketch * any(form.quick for form in forms)


def mark_of(finding: Finding) -> Mark:
    """The verdict, with its sign."""
    return Mark(finding.verdict, KINDS[finding.verdict])


def claim_section(claim: Claim, stored: Stored, finding: Finding) -> Section:
    """A claim: the question, the rule, the answer, the figure, the numbers, and the measurements."""
    answer = (
        ("Question", claim.question),
        ("Method", claim.method),
        ("Rule", claim.rule),
        ("Verdict", mark_of(finding)),
        *([("Conditions", finding.conditions)] if finding.conditions else []),
        ("Number", finding.number),
        ("Reason", finding.because),
        ("Literature", claim.literature),
    )
    blocks = (
        Facts(answer),
        Picture(svg(claim.draw(stored.form, stored.found)), f"Figure of {claim.id}", claim.caption),
        Table(f"The numbers of {claim.id}", finding.columns, finding.rows),
        *([Items(finding.notes)] if finding.notes else []),
        Facts((("Refuted by", claim.refuted_by), ("Source", claim.source))),
        Code(command_of(claim, stored.form), f"The command that measures {claim.id}"),
        Details(f"All measurements of {claim.id}", (provenance_of(stored), data_of(claim, stored))),
    )
    return Section(section_id(claim), f"{claim.id}: {claim.title}", blocks)


def section_id(claim: Claim) -> str:
    """The anchor of a claim."""
    return claim.id.lower()


def command_of(claim: Claim, form: Form) -> str:
    """The command that measures a claim again, with the images of its form where the claim takes any.

    >>> from bn_keras.experiments.claims.catalog import claim_named
    >>> command_of(claim_named("C8"), Form(quick=True))
    'bn-keras claims C8 --quick'
    """
    words = ["bn-keras", "claims", claim.id] + ["--quick"] * form.quick
    if form.images in claim.data(form) and form.images != Form.images:
        words += ["--images", form.images]
    return shlex.join(words)


def provenance_of(stored: Stored) -> Facts:
    """Where, when and with what a claim was measured."""
    results = stored.results
    return Facts(
        (
            ("Machine", facts(results["machine"])),
            ("Versions", facts(results["versions"])),
            ("Started", results["started"]),
            ("Time", f"{stored.seconds:,.0f} seconds for {len(results['cells']):,} measurements"),
        )
    )


def data_of(claim: Claim, stored: Stored) -> Code:
    """The stored measurements, a line for each."""
    return Code(FILE.to_json(stored.results).rstrip(), f"The measurements of {claim.id} as JSON")
