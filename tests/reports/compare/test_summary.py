"""A comparison as Markdown."""

from two_sides import CASES, case

from pudle.reports.compare import summary


def test_markdown_of_many_findings_fits_a_comment(judge):
    names = [f"case-{number}-with-a-rather-long-name-lasso" for number in range(100)]

    def many(factor):
        def plant(side):
            record = side["records"][CASES[0], "backprop"]
            rows = [row | {"relative_error": 0.1 * factor} for row in record["scores"][:2]]
            side |= {"cases": [case(name) for name in names], "estimators": ["backprop"]}
            side["records"] = {
                (name, "backprop"): record | {"case": case(name), "scores": rows} for name in names
            }

        return plant

    text = summary.markdown(judge(many(10), many(1)), "base", "head", "quick")
    assert text.startswith(summary.MARKER)
    assert len(text) < 65_536 and "and 70 more lines" in text
