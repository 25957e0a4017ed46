"""The report in a Chromium, opened from disk: sorting, filtering, keys, playback, and an axe check."""

import itertools
import json
import re
import shutil

import pytest
from finished import DATA, HOSTILE_ATTRIBUTE, HOSTILE_NAME


def cells(page, column: int) -> list[str]:
    return page.eval_on_selector_all("#rows tr", f"rows => rows.map(row => row.cells[{column}].textContent)")


def all_rows(page) -> None:
    """Scroll the list down to its end."""
    page.eval_on_selector("#list", "list => { list.scrollTop = list.scrollHeight; }")
    page.wait_for_function(
        "document.querySelectorAll('#rows tr').length === parseInt(document.getElementById('count').textContent)"
    )


def select(page, name: str, value: str) -> None:
    page.select_option(f"#filters [name={name}]", value)


def current(page) -> str:
    return page.text_content("#name")


def test_the_page_asks_for_nothing_that_is_not_beside_it(report):
    text = report.read_text()
    named = re.findall(r"""(?:src|href)="([^"#][^"]*)\"""", text)
    assert "figures/models/fan.svg" in named
    assert "figures/machines/fan/examples.svg" in named
    for one in named:
        assert one == "data:," or (report.parent / one).is_file(), one
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest", text.split("<svg")[0])


def test_the_single_file_is_all_there_is(page, version, reports):
    """The fixture fails on any request but that for the page; here, that its figures and a large one are there."""
    figures = page.locator(".figures img")
    for number in range(figures.count()):
        if figures.nth(number).is_visible():
            figures.nth(number).scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.figures img')]"
        ".filter(one => one.checkVisibility()).every(one => one.complete && one.naturalWidth > 0)"
    )
    with page.expect_popup() if version == "single/single.html" else page.expect_navigation() as large:
        page.locator("figure.training a").first.click()
    shown = large.value if version == "single/single.html" else page
    shown.wait_for_load_state()
    assert "section accuracy" in shown.locator("svg").text_content()
    shown.goto("about:blank")
    assert len(list((reports / "small" / version).parent.iterdir())) == (1 if version == "single/single.html" else 4)


def test_600_clips(look_at, reports, version):
    """The first view asks for little, and only the rows that are near are made, whatever is done with the list."""
    with look_at(reports / "many" / version) as page:
        asked = []
        page.on("request", lambda one: asked.append(one.url))
        page.reload()
        assert page.text_content("#count").startswith("600 of 600 clips")
        assert len(cells(page, 2)) == 60
        assert len(asked) < 100  # of 1800 files: figures, and pictures of the rows that are near
        assert not [one for one in asked if one.endswith(".flac")]
        assert page.evaluate("made.size") <= 63  # the rows' pictures; the chosen clip's sound

        for _ in range(5):
            page.check("#filters [name=wrong]")
            assert 0 < len(cells(page, 2)) <= 60
            page.uncheck("#filters [name=wrong]")
            page.click("th[data-key=section] button")
            assert len(cells(page, 2)) == 60
        page.click("#rows tr:first-child td:nth-child(3)")
        for _ in range(100):
            page.keyboard.press("j")
        assert page.locator("#rows tr").nth(100).get_attribute("aria-current") == "true"
        while len(cells(page, 2)) < 600:
            page.eval_on_selector("#list", "list => { list.scrollTop = list.scrollHeight; }")
            page.wait_for_timeout(20)


def test_names_from_outside_are_texts(page):
    assert page.evaluate("window.hacked") is None
    for text, shown in ((HOSTILE_NAME, HOSTILE_NAME), (HOSTILE_ATTRIBUTE, f"note {HOSTILE_ATTRIBUTE}")):
        page.fill("#filters [name=text]", text)
        assert page.text_content("#count").startswith("1 of 72 clips")
        page.click("#rows td:nth-child(3)")
        assert shown in page.text_content("#viewer")
    assert page.evaluate("window.hacked") is None


def test_only_as_many_rows_as_are_looked_at(page, clips):
    assert len(clips) == 72
    assert len(cells(page, 2)) == 60
    all_rows(page)
    assert len(cells(page, 2)) == 72
    away = page.eval_on_selector_all("#rows img", "all => all.filter(one => one.loading !== 'lazy').length")
    assert away == 0
    assert page.get_attribute("#player", "preload") == "none"


def ranked(clips: list[dict], model: str = "ensemble") -> list[dict]:
    """The most suspicious first."""
    return sorted(clips, key=lambda clip: (-clip["deviations"][model], -clip["scores"][model]))


def test_sorting(page, clips):
    best_first = [clip["deviations"]["ensemble"] for clip in ranked(clips)]
    all_rows(page)
    assert [float(text) for text in cells(page, 6)] == pytest.approx(best_first, abs=0.051)
    assert page.get_attribute("th[data-key=deviation]", "aria-sort") == "descending"
    page.click("th[data-key=deviation] button")
    all_rows(page)
    assert [float(text) for text in cells(page, 6)] == pytest.approx(best_first[::-1], abs=0.051)
    page.focus("th[data-key=machine] button")
    page.keyboard.press("Enter")
    all_rows(page)
    assert cells(page, 2) == ["fan"] * 64 + ["valve"] * 8
    assert page.get_attribute("th[data-key=machine]", "aria-sort") == "ascending"
    assert page.get_attribute("th[data-key=deviation]", "aria-sort") is None


def test_filtering(page, clips):
    select(page, "section", "01")
    select(page, "domain", "target")
    select(page, "label", "anomaly")
    select(page, "machine", "fan")
    assert set(zip(*(cells(page, column) for column in range(2, 6)), strict=True)) == {
        ("fan", "01", "target", "anomaly")
    }
    assert page.text_content("#count").startswith("8 of 72 clips")


@pytest.mark.parametrize("model", ["ensemble", "global", "local"])
def test_wrong_decisions_are_those_of_the_chosen_model(page, clips, model):
    select(page, "model", model)
    page.check("#filters [name=wrong]")
    wrong = [clip for clip in clips if (clip["label"] == "anomaly") != bool(clip["decisions"][model])]
    assert wrong
    assert page.text_content("#count") == f"{len(wrong)} of 72 clips, {len(wrong)} wrong"
    assert set(cells(page, 7)) <= {"missed", "false alarm"}
    expected = [clip["deviations"][model] for clip in ranked(wrong, model)]
    assert [float(text) for text in cells(page, 6)] == pytest.approx(expected, abs=0.051)


def test_keys_go_from_clip_to_clip(page, clips):
    order = [clip["file"] for clip in ranked(clips)]
    assert current(page) == order[0]
    for key, expected in (("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        assert current(page) == order[expected]
    page.focus("#list")
    for _ in range(65):  # beyond the rows that are drawn at first
        page.keyboard.press("ArrowDown")
    assert current(page) == order[65]
    row = page.locator("#rows tr[aria-current]")
    assert row.count() == 1
    outer, inner = page.locator("#list").bounding_box(), row.bounding_box()
    assert outer["y"] <= inner["y"]
    assert inner["y"] + inner["height"] <= outer["y"] + outer["height"]
    page.focus("#filters [name=text]")
    page.keyboard.press("j")  # a letter there
    assert current(page) == order[65]
    assert page.input_value("#filters [name=text]") == "j"


def test_the_cursor_follows_the_sound(page):
    left = "parseFloat(document.getElementById('cursor').style.left)"
    before = page.evaluate(left)
    assert before == pytest.approx(100 * 0.016 / 1.024, abs=0.01)  # time 0, of axes from -0.016 to 1.008 s
    page.keyboard.press(" ")
    page.wait_for_function(f"{left} > {before} + 20")
    assert page.evaluate("document.getElementById('player').currentTime") > 0.2
    page.wait_for_function("document.getElementById('player').ended")
    assert page.evaluate(left) == pytest.approx(100 * 1.016 / 1.024, abs=1)


def test_a_click_in_the_spectrogram_and_the_worst_window(page):
    width = page.locator("#over").bounding_box()["width"]
    page.click("#over", position={"x": 0.5 * width, "y": 20})
    page.wait_for_function("document.getElementById('player').currentTime > 0")
    at = page.evaluate("document.getElementById('player').currentTime")
    assert at == pytest.approx(0.496, abs=0.02)  # half of the axes
    page.click("#worst")
    page.wait_for_function(f"document.getElementById('player').currentTime !== {at}")
    # The last window of the clip with the highest score: from frame 16, less half a frame.
    assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(15.5 * 0.032, abs=0.02)
    assert "Most anomalous from 0.5 to 1.0 s" in page.text_content("#explained")


def test_the_log_mel_and_the_curve_are_there(page, clips):
    page.wait_for_function("document.getElementById('logmel').naturalWidth > 0")
    assert page.get_attribute("#logmel", "alt").startswith("Log-mel spectrogram of section_")
    assert "highest from 0.5 to 1.0 s" in page.get_attribute("#curve", "aria-label")
    mel, over, curve = (page.locator(f"#{name}").bounding_box() for name in ("logmel", "over", "curve"))
    assert over["x"] == pytest.approx(mel["x"], abs=1)
    assert over["width"] == pytest.approx(mel["width"], abs=1) == pytest.approx(curve["width"], abs=1)
    assert over["y"] + over["height"] == pytest.approx(curve["y"] + curve["height"], abs=2)


def test_the_curve_shows_how_long_its_windows_are(page, clips):
    """Windows of 16 frames from frame 0, 2, … 16, of 32; the axes go from half a frame before the first."""
    clip = ranked(clips)[0]
    thin = page.get_attribute("#curve .windows", "d")
    lines = [tuple(map(float, line)) for line in re.findall(r"M([-\d.]+) [\d.]+h([\d.]+)", thin)]
    for start, (left, width) in zip(range(0, 17, 2), lines, strict=True):
        assert left == pytest.approx(1000 * start / 32)
        assert width == pytest.approx(1000 * 16 / 32)
    worst = page.get_attribute("#curve .worst", "d")
    assert float(re.match(r"M([\d.]+)", worst)[1]) == pytest.approx(1000 * 16 / 32)
    left, width = (
        page.evaluate(f"parseFloat(document.getElementById('extent').style.{key})") for key in ("left", "width")
    )
    assert (left, width) == pytest.approx((50, 50))
    assert clip["worst"] == pytest.approx(23.5 * 0.032)


def test_the_verdict_stands_first_and_the_clips_follow(page, clips):
    ids = page.eval_on_selector_all("main > section", "all => all.map(one => one.id)")
    assert ids == ["verdict", "clips", "models", "machine-fan", "machine-valve", "made"]
    assert page.locator("#list").bounding_box()["y"] < 900  # the height of the screen
    flagged = [clip for clip in clips if clip["decisions"]["ensemble"] == 1]
    assert page.text_content("h1") == f"{len(flagged)} of 72 recordings sound anomalous"
    for row, machine in enumerate(("fan", "valve")):
        own = [clip for clip in clips if clip["machine"] == machine]
        anomalies, normals = ([one for one in own if one["label"] == label] for label in ("anomaly", "normal"))
        said = page.locator("#verdict tbody tr").nth(row).locator("td").all_text_contents()
        counts = [
            f"{sum(one['decisions']['ensemble'] for one in some)} of {len(some)}" for some in (own, anomalies, normals)
        ]
        assert [" ".join(text.split()[:3]) for text in said[:3]] == counts
    page.click("#verdict a[data-machine=valve]")
    assert page.input_value("#filters [name=machine]") == "valve"
    assert page.text_content("#count").startswith("8 of 72 clips")


def test_found_anomalies_and_false_alarms_of_each_model_and_section(page, clips):
    table = page.locator("#machine-fan table.halves")
    assert table.locator("thead th").all_text_contents() == ["Model", "all sections", "section 00", "section 01"]
    first = table.locator("tbody tr").first
    own = [clip for clip in clips if clip["machine"] == "fan" and clip["section"] == "00"]
    shares = [
        100 * sum(clip["decisions"]["global"] for clip in some) / len(some)
        for some in ([clip for clip in own if clip["label"] == label] for label in ("anomaly", "normal"))
    ]
    assert first.locator("th").text_content() == "CNN-Global"
    halves = first.locator("td").nth(1).locator("span").all_text_contents()
    assert [float(half.split()[0]) for half in halves] == pytest.approx(shares, abs=0.51)


def test_what_all_clips_have_in_common_is_not_repeated(look_at, reports, tmp_path):
    """Without labels and domains, and of one section, the list has neither columns nor filters of them."""
    text = (reports / "small/folder/index.html").read_text()
    before, after = text.split(DATA)
    said, after = after.split("</script>", 1)
    data = json.loads(said)
    data["machines"] = [data["machines"][1]]
    for clip in data["machines"][0]["clips"]:
        clip |= {"label": "", "domain": "", "section": "00", "decisions": dict.fromkeys(clip["decisions"], -1)}
    shutil.copytree(reports / "small/folder", tmp_path / "folder")
    (tmp_path / "folder/index.html").write_text(
        before + DATA + json.dumps(data).replace("<", "\\u003c") + "</script>" + after
    )
    with look_at(tmp_path / "folder/index.html") as page:
        heads = page.eval_on_selector_all("#list th:not([hidden])", "all => all.map(one => one.dataset.column)")
        assert heads == ["play", "image", "deviation", "verdict", "file"]
        assert set(cells(page, 3)) == {"not decided"}
        assert page.text_content("#count") == "8 of 8 clips"
        for name in ("machine", "section", "domain", "label", "wrong"):
            assert not page.locator(f"#filters [name={name}]").is_visible()


def test_a_chosen_row_keeps_its_colour_under_the_pointer(page):
    colour = "one => getComputedStyle(one).backgroundColor"
    row = page.locator("#rows tr[aria-current]")
    page.mouse.move(0, 0)
    chosen = row.evaluate(colour)
    row.hover()
    assert row.evaluate(colour) == chosen
    assert page.locator("#rows tr").nth(2).evaluate(colour) != chosen


def test_the_screen_is_dark_where_the_system_is(page):
    colour = "one => getComputedStyle(one).backgroundColor"
    assert page.locator("body").evaluate(colour) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.locator("body").evaluate(colour) == "rgb(21, 25, 30)"
    assert page.locator(".map svg text").first.evaluate("one => getComputedStyle(one).fill") == "rgb(230, 233, 237)"


def test_on_a_phone_figures_are_below_each_other_and_no_number_is_cut(page):
    page.set_viewport_size({"width": 390, "height": 850})
    for section in ("#models", "#machine-fan"):
        boxes = [one.bounding_box() for one in page.locator(f"{section} > .figures > figure").all()]
        assert len(boxes) > 1
        assert len({box["x"] for box in boxes}) == 1
        assert all(upper["y"] + upper["height"] <= lower["y"] for upper, lower in itertools.pairwise(boxes))
    small = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one => one.checkVisibility() && one.closest('svg') === null)"
        ".filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))"
        ".filter(one => parseFloat(getComputedStyle(one).fontSize) < 11).map(one => one.outerHTML)"
    )
    assert small == []
    cut = page.evaluate(
        """[...document.querySelectorAll('#models .scroll')].flatMap(table => {
          const [name, ...cells] = table.querySelector('tbody tr').cells;
          const [begin, end] = [name.getBoundingClientRect().right, table.getBoundingClientRect().right];
          return cells.map(cell => cell.getBoundingClientRect())
            .filter(box => box.right > begin + 1 && box.left < end - 1)
            .filter(box => box.left < begin - 1 || box.right > end + 1).map(box => [box.left, box.right, begin, end]);
        })"""
    )
    assert cut == []


def test_a_point_of_the_map_opens_its_clip(page, clips):
    chosen = clips[5]
    page.locator(f".map [data-clip=fan-{chosen['row']}]").dispatch_event("click")
    assert current(page) == chosen["file"]
    assert page.evaluate("location.hash") == f"#fan-{chosen['row']}"
    page.reload()
    assert current(page) == chosen["file"]


def test_what_made_it(page):
    assert "61.5 s" in page.text_content("#made")
    assert "1234" in page.text_content("#made")
    assert "resamples: 20" in page.text_content("#made pre")
    assert "71.3 / 61.3" in page.text_content("#versus")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing(page, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 850})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = Axe().run(page).response
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
    assert len(found["passes"]) > 15
    assert page.evaluate("document.documentElement.scrollWidth") == width
