"""The page of mode=serve in a real browser, with fake models."""

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
from conftest import FinishedRun
from fake_served_models import VERSIONS, make_image
from serve_settings import serve_settings
from serving_process import serving

from pipelines.serve.application import create_app
from pipelines.serve.page import create_page
from pipelines.serve.served_models import ServedModels

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytest.importorskip("nicegui", reason="needs the extra web")

TOKEN = "a-secret-token"


def bind_socket() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


class Site(SimpleNamespace):
    """A server, open and with a token, in a thread of its own: open and locked are their URLs."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = serve_settings(max_body=400_000)
    places = {name: Path("nowhere") for name in VERSIONS}
    sockets = [bind_socket(), bind_socket()]
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        models = ServedModels(places, settings)
        for name, version in VERSIONS.items():
            models[name].current = version  # type: ignore[assignment]
        page = create_page(models)
        for token, lifespan in ((None, "on"), (TOKEN, "off")):  # the page begins once
            app = create_app(models, token, page)
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
    """A page in the browser, with the URLs that it requested and its errors."""

    def __init__(self, browser: Any, url: str, **options: Any):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.requested: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("websocket", lambda socket: self.requested.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("form .q-btn")

    def choose(self, name: str, which: str = "Model") -> None:
        self.page.get_by_role("combobox", name=which).click()
        self.page.get_by_role("option", name=name, exact=True).click()
        # the menu fades; until it is gone the next one's options are there twice
        self.page.locator(".q-menu").wait_for(state="detached")

    def submit(self, text: str) -> None:
        self.page.locator("textarea").first.fill(text)
        self.page.get_by_role("button", name="Predict").click()

    def texts(self, selector: str) -> list[str]:
        self.page.wait_for_selector(selector)
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]


@pytest.fixture
def tab(browser: Any, site: Site, request: pytest.FixtureRequest) -> Iterator[Tab]:
    tab = Tab(browser, site.open, **getattr(request, "param", {}))
    yield tab
    tab.context.close()
    assert not tab.errors
    hosts = {url.split("/")[2] for url in tab.requested if not url.startswith(("data:", "blob:"))}
    assert hosts == {site.open.removeprefix("http://")}, "a request has left this host"
    assert not list(site.folder.iterdir()), "the page has stored something"


def test_a_class_is_shown_with_its_probabilities_and_coloured_words(tab: Tab) -> None:
    tab.submit("great but slow film")
    assert tab.texts(".output") == ["positive"]
    assert tab.texts(".bars th") == ["positive", "negative", "neither"]
    assert sum(float(n.rstrip("%")) for n in tab.texts(".bars .number")) == pytest.approx(100)
    widths = tab.page.eval_on_selector_all(
        ".bars .bar span", "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert widths[1] / widths[0] == pytest.approx(2 / 7, rel=0.02)
    assert tab.texts(".passage span") == ["great", "but", "slow", "film"]
    colours = tab.page.eval_on_selector_all(
        ".passage span", "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(colours)) == 4
    assert tab.page.locator(".passage .against").all_inner_texts() == ["film"]


def test_a_translation_is_shown_with_its_attention_and_the_n_best(tab: Tab) -> None:
    tab.choose("new")
    tab.submit("the dog runs fast")
    assert tab.texts(".output") == ["ein <Hund> läuft"]
    assert tab.texts(".heat tbody th") == ["ein", "<Hund>", "läuft"]
    assert tab.texts(".heat thead th") == ["the", "dog", "runs", "fast"]
    shares = tab.page.locator(".heat tbody tr:nth-child(2) td").evaluate_all(
        "all => all.map(one => Number(one.style.getPropertyValue('--share')))"
    )
    assert shares == [0.033, 0.9, 0.033, 0.033]
    best = [line.split("\n") for line in tab.texts("ol li")]
    assert [" ".join(line) for line in best] == [
        "ein <Hund> läuft -0.500",
        "der Hund rennt -1.250",
    ]


def test_columns_of_right_to_left_text_run_from_right_to_left(tab: Tab) -> None:
    tab.choose("new")
    tab.submit("الكلب يجري بسرعة")
    tab.page.wait_for_selector(".heat")
    left = tab.page.eval_on_selector_all(
        ".heat thead th", "all => all.map(one => one.getBoundingClientRect().left)"
    )
    assert left == sorted(left, reverse=True)


def test_a_caption_is_shown_with_an_image_for_each_word(tab: Tab) -> None:
    tab.choose("images")
    tab.page.set_input_files("input[type=file]", files=[file("heart.png", make_image())])
    assert tab.texts(".output") == ["red heart"]
    assert tab.texts(".shaded-images figcaption") == ["red", "heart"]
    labels = [one.get_attribute("aria-label") for one in tab.page.locator(".shaded").all()]
    assert labels == [
        "For “red” the most attention is on the top left.",
        "For “heart” the most attention is on the bottom right.",
    ]
    sizes = tab.page.eval_on_selector_all(
        ".shaded img", "all => all.map(one => [one.naturalWidth, one.naturalHeight])"
    )
    assert sizes == [[3, 3], [3, 3]]


def file(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def test_numbers_are_entered_with_commas_or_as_json(tab: Tab) -> None:
    tab.choose("numbers")
    tab.page.get_by_label("x: numbers between commas or spaces, or a JSON list").wait_for()
    for entry in ("[1, 2.5]", "1, 2.5", "1\n2.5"):
        tab.submit(entry)
        tab.page.wait_for_selector(".plain")
        assert tab.texts(".plain") == ["sum\t3.5"]
    tab.submit("[1")
    assert "must be JSON" in tab.texts(".error:visible")[0]
    tab.submit("1 2 3")
    tab.page.wait_for_function(
        "document.querySelector('.error').innerText.includes('a list of 2 numbers')"
    )


def test_words_series_and_numbers_have_fields_of_their_own(tab: Tab) -> None:
    tab.choose("types")
    tab.page.get_by_label("tokens: words between spaces").fill("the  dog\nruns")
    tab.page.get_by_label("series: CSV, a line of 2 numbers for each step").fill(
        "1,2\n3,4\n5,6\n7,8"
    )
    age = tab.page.get_by_label("age")
    assert age.get_attribute("type") == "number"
    age.fill("2.5")
    age.press("Enter")
    assert tab.texts(".aligned tr") == ["token\tthe\tdog\truns", "tag\tTAG0\tTAG1\tTAG2"]
    assert tab.page.locator(".curve polyline").count() == 2
    assert tab.texts(".plain tr")[1] == "age\t3.5"
    age.fill("")
    tab.page.get_by_role("button", name="Predict").click()
    assert "type something first" in tab.texts(".error:visible")[0]


def test_a_file_that_is_no_image_can_be_sent_where_the_input_is_none(tab: Tab) -> None:
    tab.choose("sounds")
    tab.page.set_input_files("input[type=file]", files=[file("sound.wav", bytes(1000))])
    assert tab.texts(".plain") == ["length\t1000"]


def test_two_models_are_shown_side_by_side(tab: Tab) -> None:
    tab.choose("new")
    tab.choose("old", "Compare with")
    tab.submit("a dog")
    tab.page.wait_for_selector("article:nth-child(2)")
    articles = tab.page.locator("article")
    assert [a.get_attribute("aria-label") for a in articles.all()] == ["new", "old"]
    assert tab.texts("article .output") == ["ein <Hund> läuft", "A DOG"]
    boxes = [article.bounding_box() for article in articles.all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_an_error_of_one_model_leaves_the_outputs_of_the_other(tab: Tab) -> None:
    tab.choose("new", "Compare with")
    tab.submit("boom")
    assert tab.texts("article .output") == ["ein <Hund> läuft"]
    assert tab.texts("article .error") == ["text: the model can't read this"]


def test_errors_are_shown_in_words(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Predict").click()
    assert "type something first" in tab.texts(".error:visible")[0]
    tab.submit("boom")
    tab.page.wait_for_function("document.querySelector('.error').innerText.includes('read this')")
    tab.submit("long " * 100_000)
    tab.page.wait_for_function("document.querySelector('.error').innerText.includes('400,000')")
    tab.choose("images")
    tab.page.get_by_role("button", name="Predict").click()
    tab.page.wait_for_function("document.querySelector('.error').innerText.includes('image')")
    tab.page.set_input_files("input[type=file]", files=[file("text.jpg", b"hello")])
    tab.page.wait_for_function("document.querySelector('.error').innerText.includes('no image')")
    tab.page.set_input_files("input[type=file]", files=[file("large.bmp", make_image("BMP", 500))])
    tab.page.wait_for_function("document.querySelector('.error').innerText.includes('299,000')")
    assert not tab.page.locator("article").count()


def test_the_page_works_by_keyboard(tab: Tab) -> None:
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
    assert tab.texts(".passage span") == ["fine", "film"]
    keys.press("Shift+Tab")
    keys.press("End")
    keys.type(" indeed")
    keys.press("Control+Enter")
    tab.page.wait_for_selector(".passage span:nth-child(3)")


def test_an_image_can_be_chosen_by_keyboard(tab: Tab) -> None:
    tab.choose("images")
    with tab.page.expect_file_chooser() as chooser:
        tab.page.get_by_role("button", name="Choose an image").press("Enter")
    chooser.value.set_files(files=[file("heart.png", make_image())])
    assert tab.texts(".output") == ["red heart"]


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


@pytest.mark.parametrize("tab", [PHONE], indirect=True, ids=["360 pixels"])
def test_on_a_phone_nothing_is_wider_than_the_screen(tab: Tab) -> None:
    def fits() -> None:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
        wide = tab.page.evaluate(
            "[...document.querySelectorAll('article, form, .output, .bars, .passage, .scrolls')]"
            ".filter(one => one.getBoundingClientRect().right > 360).map(one => one.className)"
        )
        assert not wide

    fits()
    tab.submit("word " * 60 + "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 2)
    tab.page.wait_for_selector(".passage")
    fits()
    tab.choose("new")
    tab.choose("old", "Compare with")
    tab.submit("word " * 60 + "w" * 200)
    tab.page.wait_for_selector(".heat")
    fits()
    tab.choose("images")
    tab.page.set_input_files("input[type=file]", files=[file("heart.png", make_image())])
    tab.page.wait_for_selector(".shaded-images")
    fits()


@pytest.mark.parametrize("tab", [{"color_scheme": "dark"}], indirect=True, ids=["dark"])
def test_a_dark_color_scheme_makes_the_page_dark(tab: Tab) -> None:
    tab.page.wait_for_selector(".body--dark")
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(13, 17, 23)"


@pytest.mark.slow
def test_an_open_page_does_not_delay_the_end_of_the_server(
    browser: Any, finished_run: FinishedRun, tmp_path: Path
) -> None:
    with serving(
        tmp_path / "log", f"run={finished_run.directory}", "serve.drain_seconds=0"
    ) as server:
        tab = Tab(browser, str(server.client.base_url))
        tab.submit("a great film of people")
        assert tab.texts(".passage span") == ["a", "great", "film", "of", "people"]
        response = server.predict("sentiment", instances=["a great film of people"])["predictions"][
            0
        ]
        assert tab.texts(".output") == [response["label"]]
        shares = dict(zip(tab.texts(".bars th"), tab.texts(".bars .number"), strict=True))
        for label, share in zip(response["labels"], response["probabilities"], strict=True):
            assert float(shares[label].rstrip("%")) == pytest.approx(100 * share, abs=0.06)
        counted = server.client.get("/metrics").text
        assert 'serving_requests_total{model="sentiment",status="200"} 2.0' in counted
        server.process.terminate()
        server.process.wait(15)
        assert server.process.returncode == 0, server.log_text()
        assert "Traceback" not in server.log_text()
        tab.context.close()
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_browser_sends_the_token_as_a_password(browser: Any, site: Site) -> None:
    right = {"username": "anybody", "password": TOKEN}
    tab = Tab(browser, site.locked, http_credentials=right)
    tab.submit("good")
    assert tab.texts(".output") == ["positive"]
    tab.context.close()
    context = browser.new_context(http_credentials={"username": "x", "password": "wrong"})
    assert context.new_page().goto(site.locked).status == 401
    context.close()


def test_the_whole_page_needs_the_token(site: Site) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    static = httpx.get(site.open).text.split('src="')[1].split('"')[0]
    response = httpx.get(site.locked)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic realm=")
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
def test_a_token_is_a_bearer_token_or_a_password(site: Site, header: bytes, status: int) -> None:
    response = httpx.get(f"{site.locked}/v1/models/nothing", headers={"Authorization": header})
    assert response.status_code == status


def test_the_api_is_unchanged_by_the_page(site: Site) -> None:
    requests = [
        ("GET", "/nothing", 404),
        ("DELETE", "/v1/models/new", 405),
        ("GET", "/_nicegui", 404),
    ]
    for method, path, status in requests:
        response = httpx.request(method, site.open + path)
        assert (response.status_code, list(response.json())) == (status, ["error"])


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(site: Site) -> None:
    path = f"{site.open}/_nicegui/client/unknown/upload/1"
    assert httpx.post(path, content=b" " * 600_000).status_code == 413
    assert httpx.post(path, content=iter([b"a"])).status_code == 413


def test_without_the_extra_the_page_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.serve.page.PACKAGES", ("no_such_package",))
    models = ServedModels({"reviews": Path("nowhere")}, serve_settings())

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(models, None, create_page(models)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/")

    with ThreadPoolExecutor() as pool:  # in this thread the browser's driver has a loop
        response = pool.submit(asyncio.run, get()).result()
    assert response.status_code == 200
    assert "pip install '.[web]'" in response.text
    assert "NAME is reviews" in response.text
