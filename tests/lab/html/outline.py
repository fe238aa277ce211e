"""What an HTML document holds, as Python's own parser sees it."""

import html.parser
import re

VOID = {"meta", "link", "br", "hr", "img"}
REFERENCES = ("href", "aria-labelledby", "aria-describedby", "clip-path", "style")


class Outline(html.parser.HTMLParser):
    """The tags, ids, references, headings, tables and text of a document.

    Attributes:
        tags: The names of all elements.
        ids: All ids.
        references: The ids that attributes refer to.
        headings: The levels of the headings.
        tables: For each table, whether it has a caption, and the scopes of its heads.
        text: The text outside of styles.
        open: The elements that were not closed.
    """

    def __init__(self, document):
        super().__init__()
        self.tags, self.ids, self.references, self.headings, self.tables = [], [], [], [], []
        self.text, self.open = "", []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.note(tag, dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.note(tag, dict(attributes))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def note(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        for name in REFERENCES:
            pattern = r"(\S+)" if name.startswith("aria") else r"^#(.*)" if name == "href" else r"url\(#(.*?)\)"
            self.references += re.findall(pattern, attributes.get(name) or "")
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append({"caption": False, "scopes": []})
        if tag == "caption":
            self.tables[-1]["caption"] = True
        if tag == "th":
            self.tables[-1]["scopes"].append(attributes.get("scope"))


def check(document):
    """Checks what every page must have, and returns the outline."""
    outline = Outline(document)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids)), "ids are unique"
    assert set(outline.references) <= set(outline.ids), "every reference has its element"
    assert outline.headings[0] == 1
    assert all(next_one <= level + 1 for level, next_one in zip(outline.headings, outline.headings[1:], strict=False))
    for table in outline.tables:
        assert table["caption"]
        assert table["scopes"]
        assert set(table["scopes"]) <= {"col", "row"}
    assert not {"script", "iframe", "object"} & set(outline.tags)
    return outline
