"""A report as one HTML file: text, tables and pictures, without scripts and without a network."""

from bn_keras.lab.html.page import (
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
)
from bn_keras.lab.html.render import to_html

__all__ = [
    "BAD",
    "GOOD",
    "PARTLY",
    "Code",
    "Command",
    "Details",
    "Facts",
    "Items",
    "Link",
    "Mark",
    "Page",
    "Paragraph",
    "Picture",
    "Section",
    "Table",
    "to_html",
]
