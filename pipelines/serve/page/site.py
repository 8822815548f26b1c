"""The page's application: NiceGUI's, which serves all that it loads itself."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from nicegui import events, ui
from starlette.formparsers import MultiPartParser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serve.errors import RequestError
from pipelines.serve.page.drawings import drawn
from pipelines.serve.page.fields import Field, body, fields_of, kinds, signature_for
from pipelines.serve.request_handling import answered, too_large
from pipelines.serve.served_models import Models

log = logging.getLogger(__name__)

TITLE = "Recurrent models"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M24 11a10 10 0 1 0 2 8'
    'm-2-8V4m0 7h-7" fill="none" stroke="#2457c5" stroke-width="4"/></svg>'
)
STYLE = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8")

FORM = 100_000
"""Bytes of a form beside the file in it."""

CHOOSE = """
<div class="inside">
  <q-btn no-caps unelevated color="primary" label="Choose a picture" @click="props.pickFiles">
    <q-uploader-add-trigger />
  </q-btn>
  <span class="hint">or drop it here: PNG, JPEG, GIF, BMP or WebP</span>
  <img v-if="props.files.length && props.files[props.files.length - 1].__img"
       :src="props.files[props.files.length - 1].__img.src" alt="The picture that was chosen" />
</div>
"""


def site(models: Models) -> ASGIApp:
    """Serves "/" and what its pages load. A process has one: NiceGUI keeps its settings itself."""
    # A picture stays in memory, and is on no disk while it is read.
    MultiPartParser.spool_max_size = models.settings.max_body + FORM
    host = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @ui.page("/", title=TITLE)
    def home() -> None:
        Page(models).build()

    ui.run_with(
        host,
        favicon=ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=10,
        message_history_length=50,  # answers that a lost connection may want again take memory
        show_welcome_message=False,
    )
    return Limited(host, models.settings.max_body + FORM)


class Limited:
    """Refuses bodies that are too large before they are read."""

    def __init__(self, app: ASGIApp, limit: int):
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit() or int(length) > self.limit:
                failure = too_large(self.limit)
                response = JSONResponse({"error": failure.reason}, failure.status)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Page:
    """One person's page: what was chosen and given. It is gone when the browser is."""

    def __init__(self, models: Models):
        self.models = models
        self.chosen = next(iter(models))
        self.other: str | None = None
        self.values: list[str | bytes | None] = []

    def build(self) -> None:
        ui.add_css(STYLE)
        ui.colors(primary="#2457c5")
        with ui.element("main").classes("page"):
            ui.html(TITLE, tag="h1", sanitize=False)
            self.choices = ui.element("div").classes("line")
            self.form = ui.element("form").classes("card").on("submit.prevent", self.ask)
            self.form.props("aria-label='What is asked'")
            self.status = ui.label().classes("status").props("role=status aria-live=polite")
            self.fault = ui.label().classes("fault").props("role=alert")
            self.fault.set_visibility(False)
            self.answers = ui.element("div").classes("answers").props("aria-live=polite")
        self.waiting = ui.timer(0.5, self.await_models)
        self.await_models()

    def await_models(self) -> None:
        """Models take seconds to load, and the server is there before."""
        loading = [name for name in self.models if self.models[name].current is None]
        if loading:
            self.status.set_text(f"Loading {', '.join(loading)} …")
            return
        self.waiting.cancel()
        self.status.set_text("")
        self.show_choices()
        self.show_form()

    def show_choices(self) -> None:
        """Which model, and which other one that reads the same."""
        self.choices.clear()
        names = list(self.models)
        with self.choices:
            if len(names) > 1:
                first = ui.select(names, label="Model", value=self.chosen, on_change=self.choose)
                first.classes("choice").props("outlined options-dense")
            else:
                ui.label(self.chosen).classes("choice hint")
            if rivals := self.rivals():
                offered: dict[str, str] = {"": "none", **{name: name for name in rivals}}
                second = ui.select(offered, label="Compare with", value=self.other or "")
                second.classes("choice").props("outlined options-dense")
                second.on_value_change(self.compare)

    def rivals(self) -> list[str]:
        """The other models that can be asked the same."""
        own = kinds(self.signature(self.chosen))
        return [n for n in self.models if n != self.chosen and kinds(self.signature(n)) == own]

    def signature(self, name: str) -> Any:
        return signature_for(self.models[name].version(None).signatures)

    def choose(self, event: events.ValueChangeEventArguments) -> None:
        before = kinds(self.signature(self.chosen))
        self.chosen, self.other = event.value, None
        self.show_choices()
        if kinds(self.signature(self.chosen)) != before:
            self.show_form()
        self.answers.clear()
        self.tell("")

    def compare(self, event: events.ValueChangeEventArguments) -> None:
        self.other = event.value or None
        self.answers.clear()
        self.tell("")

    def show_form(self) -> None:
        """A field for each input, and the button."""
        self.form.clear()
        fields = fields_of(self.signature(self.chosen))
        self.values = [None] * len(fields)
        with self.form:
            for index, field in enumerate(fields):
                if field.kind == "picture":
                    self.picture(index)
                else:
                    self.text(index, field, alone=len(fields) == 1)
            with ui.element("div").classes("line").style("margin-block-start: .75rem"):
                self.button = ui.button("Answer").props("type=submit no-caps unelevated")
                typed = any(field.kind != "picture" for field in fields)
                told = "Ctrl + Enter asks, too. " if typed else ""
                ui.label(f"{told}Nothing that you give is kept.").classes("hint")

    def text(self, index: int, field: Field, *, alone: bool) -> None:
        # Another model may call its text otherwise, and what was typed stays.
        named = "Text" if alone else field.name
        label = f"{field.name}, as JSON" if field.kind == "values" else named
        typed = ui.textarea(label, on_change=lambda e: self.set(index, e.value))
        typed.props("outlined autogrow dir=auto")
        typed.on("keydown.ctrl.enter", self.ask)
        typed.on("keydown.meta.enter", self.ask)

    def picture(self, index: int) -> None:
        settings = self.models.settings

        async def uploaded(event: events.UploadEventArguments) -> None:
            self.set(index, await event.file.read())
            await self.ask()

        # In the request three bytes are four letters, beside its names.
        largest = settings.max_body * 3 // 4 - 1000
        refused = f"The picture must have no more than {largest:,} bytes."
        drop = ui.upload(
            auto_upload=True,
            max_file_size=largest,
            on_upload=uploaded,
            on_rejected=lambda: self.tell(refused),
        )
        drop.classes("drop").props("accept='image/*' flat bordered").add_slot("header", CHOOSE)
        drop.on("failed", lambda: self.tell("The picture could not be sent: try again."), args=[])

    def set(self, index: int, value: str | bytes | None) -> None:
        self.values[index] = value

    def tell(self, fault: str) -> None:
        self.status.set_text("")
        self.fault.set_text(fault)
        self.fault.set_visibility(bool(fault))

    async def ask(self) -> None:
        """All chosen models at a time, each by the way that the API's requests take."""
        self.tell("")
        self.status.set_text("Asking …")
        self.button.props("loading")
        start = time.perf_counter()
        names = [name for name in (self.chosen, self.other) if name]
        found = await asyncio.gather(*map(self.answer, names))
        self.button.props(remove="loading")
        faults = [said for said in found if isinstance(said, RequestError)]
        if len(faults) == len(found):
            self.answers.clear()
            self.tell(faults[0].reason)
            return
        self.status.set_text(f"Answered in {time.perf_counter() - start:.2f} s.")
        self.show(names, found)

    async def answer(self, name: str) -> str | RequestError:
        values, limit = list(self.values), self.models.settings.max_body

        async def asked() -> bytes:
            made = await asyncio.to_thread(body, self.signature(name), values)
            if len(made) > limit:
                raise too_large(limit)
            return made

        try:
            return await answered(
                self.models, name, None, body=asked, write=lambda _, outputs: drawn(outputs)
            )
        except RequestError as failure:
            return failure
        except Exception:
            log.exception("A defect: the page has no answer of %s.", name)
            return RequestError(500, "a defect of the server: its log has the details")

    def show(self, names: list[str], found: list[str | RequestError]) -> None:
        self.answers.clear()
        self.answers.classes(
            add="two" if len(names) > 1 else "", remove="two" if len(names) < 2 else ""
        )
        with self.answers:
            for name, said in zip(names, found, strict=True):
                with ui.element("article").classes("card").props(f"aria-label='{name}'"):
                    ui.html(name, tag="h2", sanitize=False)  # checks.py lets no "<" into it
                    if isinstance(said, RequestError):
                        ui.label(said.reason).classes("fault").props("role=alert")
                    else:
                        ui.html(said, sanitize=False)  # drawings.py escapes all that it is given
