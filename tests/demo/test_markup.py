"""Whatever comes from outside is escaped; what is markup stays."""

from personsearch.demo.markup import Markup, element, join


def test_text_and_attributes_are_escaped() -> None:
    made = element("p", "<script>&", title="\"'><b>")
    assert made == '<p title="&quot;&#x27;&gt;&lt;b&gt;">&lt;script&gt;&amp;</p>'


def test_markup_is_put_in_as_it_is() -> None:
    inner = element("b", "a < b")
    assert element("p", inner, None, " & more") == "<p><b>a &lt; b</b> &amp; more</p>"
    assert isinstance(join(inner, "x"), Markup)


def test_attribute_names_and_values() -> None:
    made = element("img", class_="a", aria_label="b", width=3.0, hidden=True, alt=None, lazy=False)
    assert made == '<img class="a" aria-label="b" width="3" hidden>'
