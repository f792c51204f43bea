"""No text of a study runs in a reader's browser, and none ends figures, tables or the report."""

import json
import re

import pytest

from longwatt.layout.pages import Labelled, Section, Table, as_html
from tests.chromium import rendered, title_of
from tests.workflow.conftest import Project

RAN = "a text ran"
ATTACK = (
    f"$5 {{figure}} </script><script>document.title='{RAN}'</script>"
    f"<img src=x onerror=\"document.title='{RAN}'\"> \U0001fae8 <!-- <script>"
)
# Opens all that Snakemake's report can show, one after the other, and says how much that was.
VISITS = """<script>
const shown = change => {
  ReactDOM.flushSync(change); return document.querySelector("#app").textContent; };
let seen = shown(() => root.render(e(App)));
const views = [...Object.keys(results).map(path => () => app.showResultInfo(path)),
  ...Object.keys(categories).map(name => () => app.showCategory(name)),
  ...Object.keys(rules).map(name => () => app.setView({navbarMode: "ruleinfo", ruleinfo: name})),
  ...["stats", "metadata"].map(name => () => app.setView({content: name}))];
views.forEach(view => seen += shown(view));
document.body.setAttribute("data-first",
  Object.keys(categories).sort((a, b) => a.localeCompare(b))[0]); // as the report's menu sorts
document.body.setAttribute("data-visited", views.length);
document.body.setAttribute("data-seen", seen);
</script>"""


def with_texts(project: Project, text: str) -> None:
    """Have a study say a text wherever it can say one."""
    said = json.dumps(text, ensure_ascii=False)
    project.edit("studies/tiny.yaml", "title: Tiny", f"title: {said}")
    for key in ("    source: needle\n", "    family: led\n"):
        project.edit("studies/tiny.yaml", key, f"{key}    title: {said}\n")
    project.edit("studies/tiny.yaml", "cpu: {gpus: 0,", f"cpu: {{title: {said}, gpus: 0,")
    test = f"{{value: {{column: score, of: {{model: led}}, above: 1}}, reason: {said}}}"
    project.study.write_text(
        f"{project.study.read_text()}\n"
        f"figures:\n  - {{name: own, title: {said}, costs: [training_time], datasets: [needle]}}\n"
        f"claims:\n  odd:\n    statement: {said}\n    source: {said}\n    tests: [{test}]\n"
        f"published:\n  source: {said}\n  protocol: generated\n  scores:\n"
        f"    - {{table: {said}, dataset: needle, model: led, budget: cpu, scores: {{32: 10}}}}\n"
    )


def test_chromium_tells_a_text_that_ran(tmp_path):
    """The other tests would pass where the browser runs nothing."""
    page = tmp_path / "page.html"
    page.write_text(f"<title>before</title><p>{ATTACK}")
    assert title_of(rendered(page)) == RAN


def test_pages_of_our_own_run_no_text(tmp_path):
    page = tmp_path / "page.html"
    contents = [ATTACK, Labelled(ATTACK, ATTACK), Table([{ATTACK: ATTACK}])]
    page.write_text(as_html("Title", [Section(ATTACK, contents)]))
    assert title_of(rendered(page)) == "Title"


@pytest.mark.long
def test_no_text_of_a_study_runs_in_its_pages_or_its_report(project):
    with_texts(project, ATTACK)
    project.run("--rerun-triggers", "params", "input")
    project.run("--report", "report.html")
    report = project.path / "report.html"
    head, _, tail = report.read_text().rpartition("</body>")  # libraries inside it have others
    report.write_text(f"{head}{VISITS}{tail}")
    document = rendered(report)
    assert title_of(document) == "Snakemake Report"
    visited = re.search(r'data-visited="(\d+)"', document)
    assert visited is not None and int(visited[1]) > 30, "the report was not opened"
    assert RAN in document.split('data-seen="', 1)[1].split('"', 1)[0], (
        "the label of the figure was not shown"
    )
    assert re.findall(r'data-first="([^"]*)"', document) == ["★ Answer"], "the answer comes first"
    pages = [path for path in project.results.rglob("*.html") if "work" not in path.parts]
    assert {"claims.html", "power.html", "summary.html", "published.html", "answer.html"} <= {
        path.name for path in pages
    }
    for path in pages:
        assert RAN not in title_of(rendered(path)), path
