"""The generated pages: each module makes the text of one page, and `registry` lists and writes them.

Nothing is imported here: a page's own needs are imported when it is written.
"""
