"""The page of mode=serve in a real browser, with models that are made up."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from conftest import ROOT, Finished
from made_up_answers import VERSIONS, picture
from serving_process import serving

from pipelines.core.settings import ServeSettings
from pipelines.serve.application import application
from pipelines.serve.page import page as page_of
from pipelines.serve.served_models import Models

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytest.importorskip("nicegui", reason="needs the extra web")

TOKEN = "a-secret-token"


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


class Site(SimpleNamespace):
    """A server, open and with a token, in a thread of its own: open and locked are their URLs."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    values = yaml.safe_load((ROOT / "conf/serve/default.yaml").read_text())
    settings = ServeSettings(**{**values, "max_body": 400_000})
    places = {name: Path("nowhere") for name in VERSIONS}
    sockets = [listening(), listening()]
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        models = Models(places, settings)
        for name, version in VERSIONS.items():
            models[name].current = version  # type: ignore[assignment]
        shown = page_of(models)
        for token, lifespan in ((None, "on"), (TOKEN, "off")):  # the page begins once
            app = application(models, token, shown)
            config = uvicorn.Config(app, lifespan=lifespan, log_level="error")  # type: ignore[arg-type]
            server = uvicorn.Server(config)
            server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
            servers.append(server)
        pairs = zip(servers, sockets, strict=True)
        await asyncio.gather(*(server.serve(sockets=[s]) for server, s in pairs))

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("served"))
        thread.start()
        urls = [f"http://127.0.0.1:{s.getsockname()[1]}" for s in sockets]
        for url in urls:
            httpx.Client(transport=httpx.HTTPTransport(retries=20)).get(f"{url}/healthz")
        yield Site(open=urls[0], locked=urls[1], folder=Path.cwd())
        for server in servers:
            server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium, or chromium-browser")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page in the browser, and all that it asked for and complained of."""

    def __init__(self, browser: Any, url: str, **options: Any):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("form .q-btn")

    def choose(self, name: str, which: str = "Model") -> None:
        self.page.get_by_role("combobox", name=which).click()
        self.page.get_by_role("option", name=name, exact=True).click()
        # the menu fades; until it is gone the next one's options are there twice
        self.page.locator(".q-menu").wait_for(state="detached")

    def ask(self, text: str) -> None:
        self.page.locator("textarea").first.fill(text)
        self.page.get_by_role("button", name="Answer").click()

    def told(self, selector: str) -> list[str]:
        self.page.wait_for_selector(selector)
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]


@pytest.fixture
def tab(browser: Any, site: Site, request: pytest.FixtureRequest) -> Iterator[Tab]:
    tab = Tab(browser, site.open, **getattr(request, "param", {}))
    yield tab
    tab.context.close()
    assert not tab.complaints
    hosts = {url.split("/")[2] for url in tab.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {site.open.removeprefix("http://")}, "a request has left this host"
    assert not list(site.folder.iterdir()), "the page has stored something"


def test_a_class_is_shown_with_probabilities_that_add_up_and_words_in_colour(tab: Tab) -> None:
    tab.ask("great but slow film")
    assert tab.told(".said") == ["positive"]
    assert tab.told(".bars th") == ["positive", "negative", "neither"]
    assert sum(float(n.rstrip("%")) for n in tab.told(".bars .number")) == pytest.approx(100)
    widths = tab.page.eval_on_selector_all(
        ".bars .bar span", "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert widths[1] / widths[0] == pytest.approx(2 / 7, rel=0.02)
    assert tab.told(".passage span") == ["great", "but", "slow", "film"]
    colours = tab.page.eval_on_selector_all(
        ".passage span", "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(colours)) == 4
    assert tab.page.locator(".passage .against").all_inner_texts() == ["film"]


def test_a_translation_is_shown_with_its_attention_and_the_n_best(tab: Tab) -> None:
    tab.choose("new")
    tab.ask("the dog runs fast")
    assert tab.told(".said") == ["ein <Hund> läuft"]
    assert tab.told(".heat tbody th") == ["ein", "<Hund>", "läuft"]
    assert tab.told(".heat thead th") == ["the", "dog", "runs", "fast"]
    shares = tab.page.locator(".heat tbody tr:nth-child(2) td").evaluate_all(
        "all => all.map(one => Number(one.style.getPropertyValue('--share')))"
    )
    assert shares == [0.033, 0.9, 0.033, 0.033]
    best = [line.split("\n") for line in tab.told("ol li")]
    assert [" ".join(line) for line in best] == [
        "ein <Hund> läuft -0.500",
        "der Hund rennt -1.250",
    ]


def test_text_that_is_written_from_right_to_left_has_its_columns_so(tab: Tab) -> None:
    tab.choose("new")
    tab.ask("الكلب يجري بسرعة")
    tab.page.wait_for_selector(".heat")
    left = tab.page.eval_on_selector_all(
        ".heat thead th", "all => all.map(one => one.getBoundingClientRect().left)"
    )
    assert left == sorted(left, reverse=True)


def test_a_caption_is_shown_with_a_picture_for_each_word(tab: Tab) -> None:
    tab.choose("pictures")
    tab.page.set_input_files("input[type=file]", files=[file("heart.png", picture())])
    assert tab.told(".said") == ["red heart"]
    assert tab.told(".looks figcaption") == ["red", "heart"]
    labels = [one.get_attribute("aria-label") for one in tab.page.locator(".look").all()]
    assert labels == [
        "For “red” it looked mostly at the top left.",
        "For “heart” it looked mostly at the bottom right.",
    ]
    sizes = tab.page.eval_on_selector_all(
        ".look img", "all => all.map(one => [one.naturalWidth, one.naturalHeight])"
    )
    assert sizes == [[3, 3], [3, 3]]


def file(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def test_a_model_of_another_kind_has_fields_for_its_values(tab: Tab) -> None:
    tab.choose("numbers")
    tab.page.get_by_label("x, as JSON").wait_for()
    tab.ask("[1, 2.5]")
    assert tab.told(".plain") == ["sum\t3.5"]
    tab.ask("[1")
    assert "must be JSON" in tab.told(".fault:visible")[0]


def test_two_models_answer_side_by_side(tab: Tab) -> None:
    tab.choose("new")
    tab.choose("old", "Compare with")
    tab.ask("a dog")
    tab.page.wait_for_selector("article:nth-child(2)")
    articles = tab.page.locator("article")
    assert [a.get_attribute("aria-label") for a in articles.all()] == ["new", "old"]
    assert tab.told("article .said") == ["ein <Hund> läuft", "A DOG"]
    boxes = [article.bounding_box() for article in articles.all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_one_that_fails_leaves_the_other_its_answer(tab: Tab) -> None:
    tab.choose("new", "Compare with")
    tab.ask("boom")
    assert tab.told("article .said") == ["ein <Hund> läuft"]
    assert tab.told("article .fault") == ["text: the model can't read this"]


def test_what_is_wrong_is_told_in_words(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Answer").click()
    assert "type something first" in tab.told(".fault:visible")[0]
    tab.ask("boom")
    tab.page.wait_for_function("document.querySelector('.fault').innerText.includes('read this')")
    tab.ask("long " * 100_000)
    tab.page.wait_for_function("document.querySelector('.fault').innerText.includes('400,000')")
    tab.choose("pictures")
    tab.page.get_by_role("button", name="Answer").click()
    tab.page.wait_for_function("document.querySelector('.fault').innerText.includes('picture')")
    tab.page.set_input_files("input[type=file]", files=[file("text.jpg", b"hello")])
    tab.page.wait_for_function("document.querySelector('.fault').innerText.includes('no picture')")
    tab.page.set_input_files("input[type=file]", files=[file("large.bmp", picture("BMP", 500))])
    tab.page.wait_for_function("document.querySelector('.fault').innerText.includes('299,000')")
    assert not tab.page.locator("article").count()


def test_the_keyboard_is_enough(tab: Tab) -> None:
    keys = tab.page.keyboard

    def focused() -> str:
        return tab.page.evaluate("document.activeElement.tagName")

    for _ in range(6):
        if focused() == "TEXTAREA":
            break
        keys.press("Tab")
    assert focused() == "TEXTAREA"
    keys.type("fine film")
    keys.press("Tab")
    keys.press("Enter")
    assert tab.told(".passage span") == ["fine", "film"]
    keys.press("Shift+Tab")
    keys.press("End")
    keys.type(" indeed")
    keys.press("Control+Enter")
    tab.page.wait_for_selector(".passage span:nth-child(3)")


def test_a_picture_can_be_chosen_by_keyboard(tab: Tab) -> None:
    tab.choose("pictures")
    with tab.page.expect_file_chooser() as chooser:
        tab.page.get_by_role("button", name="Choose a picture").press("Enter")
    chooser.value.set_files(files=[file("heart.png", picture())])
    assert tab.told(".said") == ["red heart"]


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


@pytest.mark.parametrize("tab", [PHONE], indirect=True, ids=["360 pixels"])
def test_on_a_phone_nothing_is_wider_than_the_screen(tab: Tab) -> None:
    def fits() -> None:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
        wide = tab.page.evaluate(
            "[...document.querySelectorAll('article, form, .said, .bars, .passage, .scrolls')]"
            ".filter(one => one.getBoundingClientRect().right > 360).map(one => one.className)"
        )
        assert not wide

    fits()
    tab.ask("word " * 60 + "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 2)
    tab.page.wait_for_selector(".passage")
    fits()
    tab.choose("new")
    tab.choose("old", "Compare with")
    tab.ask("word " * 60 + "w" * 200)
    tab.page.wait_for_selector(".heat")
    fits()
    tab.choose("pictures")
    tab.page.set_input_files("input[type=file]", files=[file("heart.png", picture())])
    tab.page.wait_for_selector(".looks")
    fits()


@pytest.mark.parametrize("tab", [{"color_scheme": "dark"}], indirect=True, ids=["dark"])
def test_who_likes_it_dark_has_it_dark(tab: Tab) -> None:
    tab.page.wait_for_selector(".body--dark")
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(13, 17, 23)"


@pytest.mark.slow
def test_a_run_is_served_with_a_page_that_does_not_hold_up_the_end(
    browser: Any, finished: Finished, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", f"run={finished.directory}", "serve.notice=0") as server:
        tab = Tab(browser, str(server.client.base_url))
        tab.ask("a great film of people")
        assert tab.told(".passage span") == ["a", "great", "film", "of", "people"]
        told = server.predict("sentiment", instances=["a great film of people"])["predictions"][0]
        assert tab.told(".said") == [told["label"]]
        shares = dict(zip(tab.told(".bars th"), tab.told(".bars .number"), strict=True))
        for label, share in zip(told["labels"], told["probabilities"], strict=True):
            assert float(shares[label].rstrip("%")) == pytest.approx(100 * share, abs=0.06)
        counted = server.client.get("/metrics").text
        assert 'serving_requests_total{model="sentiment",status="200"} 2.0' in counted
        server.process.terminate()
        server.process.wait(15)
        assert server.process.returncode == 0, server.told()
        assert "Traceback" not in server.told()
        tab.context.close()
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_browser_brings_the_token_as_a_password(browser: Any, site: Site) -> None:
    right = {"username": "anybody", "password": TOKEN}
    tab = Tab(browser, site.locked, http_credentials=right)
    tab.ask("good")
    assert tab.told(".said") == ["positive"]
    tab.context.close()
    context = browser.new_context(http_credentials={"username": "x", "password": "wrong"})
    assert context.new_page().goto(site.locked).status == 401
    context.close()


def test_all_of_the_page_is_behind_the_token(site: Site) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    static = httpx.get(site.open).text.split('src="')[1].split('"')[0]
    answer = httpx.get(site.locked)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    for path in (static, "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        assert httpx.get(site.open + path).status_code == 200
        assert httpx.get(site.locked + path).status_code == 401
    socket_of = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    with connect(f"ws{site.open[4:]}{socket_of}"):
        pass
    with pytest.raises(InvalidStatus, match="403"), connect(f"ws{site.locked[4:]}{socket_of}"):
        pass


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Bearer " + TOKEN.encode(), 404),
        (b"bearer " + TOKEN.encode(), 404),
        (b"Basic " + base64.b64encode(b"me:" + TOKEN.encode()), 404),
        (b"Basic " + base64.b64encode(TOKEN.encode()), 401),
        (b"Basic " + base64.b64encode(TOKEN.encode() + b":"), 401),
        (b"Basic " + base64.b64encode(b"me:"), 401),
        (b"Basic \xff", 401),
        (b"Basic", 401),
        (b"Digest " + TOKEN.encode(), 401),
        (TOKEN.encode(), 401),
        (b"", 401),
    ],
)
def test_a_token_comes_as_bearer_or_as_password(site: Site, header: bytes, status: int) -> None:
    answer = httpx.get(f"{site.locked}/v1/models/nothing", headers={"Authorization": header})
    assert answer.status_code == status


def test_the_api_is_as_without_the_page(site: Site) -> None:
    asked = [("GET", "/nothing", 404), ("DELETE", "/v1/models/new", 405), ("GET", "/_nicegui", 404)]
    for method, path, status in asked:
        answer = httpx.request(method, site.open + path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_an_upload_that_is_too_large_is_refused_unread(site: Site) -> None:
    path = f"{site.open}/_nicegui/client/unknown/upload/1"
    assert httpx.post(path, content=b" " * 600_000).status_code == 413
    assert httpx.post(path, content=iter([b"a"])).status_code == 413


def test_without_the_extra_the_page_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.serve.page.PACKAGES", ("no_such_package",))
    values = yaml.safe_load((ROOT / "conf/serve/default.yaml").read_text())
    models = Models({"reviews": Path("nowhere")}, ServeSettings(**values))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(models, None, page_of(models)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/")

    with ThreadPoolExecutor() as pool:  # in this thread the browser's driver has a loop
        answer = pool.submit(asyncio.run, ask()).result()
    assert answer.status_code == 200
    assert "pip install '.[web]'" in answer.text
    assert "NAME is reviews" in answer.text
