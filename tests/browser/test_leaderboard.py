"""The leaderboard in a Chromium, opened from disk."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from ranked import HOSTILE, make_leaderboard


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return make_leaderboard(tmp_path_factory.mktemp("board"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_fits_the_screen_and_axe_finds_nothing(look_at, board, width, scheme):
    with look_at(board) as page:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 850})
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        names = page.locator("#development table").first.locator("tbody th").all_text_contents()
        assert names == ["Spectrum", HOSTILE, "Worse"]
        assert page.locator("tr.untrained th").all_text_contents() == ["Spectrum", "Tuned"]
        assert page.evaluate("document.querySelector('figure img').naturalWidth") > 0
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") == width
        found = Axe().run(page).response
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
        for link in page.locator("a[href$='.csv']").all():
            assert (board.parent / link.get_attribute("href")).is_file()
