"""The page's application. It is NiceGUI's, which serves all that the browser loads itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from nicegui import events, ui
from starlette.formparsers import MultiPartParser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serve.errors import InternalError, RequestError
from pipelines.serve.page.fields import (
    Entry,
    InputField,
    field_kinds,
    input_fields,
    page_signature,
    request_body,
)
from pipelines.serve.page.rendering import render_outputs
from pipelines.serve.page.widgets import add_number, add_text_area, add_upload
from pipelines.serve.request_handling import handle_predict, too_large
from pipelines.serve.served_models import ServedModels
from pipelines.serve.signatures import Signature

log = logging.getLogger(__name__)

TITLE = "Recurrent models"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M24 11a10 10 0 1 0 2 8'
    'm-2-8V4m0 7h-7" fill="none" stroke="#2457c5" stroke-width="4"/></svg>'
)
STYLE = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8")

FORM_OVERHEAD = 100_000
"""Bytes of an upload's form that aren't the file's."""


def create_site(models: ServedModels) -> ASGIApp:
    """Serves "/" and what its page loads. One a process: NiceGUI's settings are the process's."""
    # NiceGUI parses uploads with Starlette, which stores those beyond this size on the disk. A
    # person's file must stay in memory. Starlette has no setting for it but this attribute.
    MultiPartParser.spool_max_size = models.settings.max_body + FORM_OVERHEAD
    host = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @ui.page("/", title=TITLE)
    def show_page() -> None:
        Page(models).build()

    ui.run_with(
        host,
        favicon=ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=10,
        message_history_length=50,  # messages kept for a lost connection take memory
        show_welcome_message=False,
    )
    return BodyLimit(host, models.settings.max_body + FORM_OVERHEAD)


class BodyLimit:
    """Middleware that refuses bodies that are too large before they are read."""

    def __init__(self, app: ASGIApp, limit: int):
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit() or int(length) > self.limit:
                error = too_large(self.limit)
                response = JSONResponse({"error": error.reason}, error.status)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Page:
    """One person's page with its entries. It is gone when the browser leaves."""

    def __init__(self, models: ServedModels):
        self.models = models
        self.model = next(iter(models))
        self.other: str | None = None
        self.entries: list[Entry] = []

    def build(self) -> None:
        ui.add_css(STYLE)
        ui.colors(primary="#2457c5")
        with ui.element("main").classes("page"):
            ui.html(TITLE, tag="h1", sanitize=False)
            self.choices = ui.element("div").classes("line")
            self.form = ui.element("form").classes("card").on("submit.prevent", self.submit)
            self.form.props("aria-label='The inputs'")
            self.status = ui.label().classes("status").props("role=status aria-live=polite")
            self.error = ui.label().classes("error").props("role=alert")
            self.error.set_visibility(False)
            self.results = ui.element("div").classes("results").props("aria-live=polite")
        self.loading_timer = ui.timer(0.5, self.show_when_loaded)
        self.show_when_loaded()

    def show_when_loaded(self) -> None:
        """Models take seconds to load, and the page can be opened before."""
        loading = [name for name in self.models if self.models[name].current is None]
        if loading:
            self.status.set_text(f"Loading {', '.join(loading)} …")
            return
        self.loading_timer.cancel()
        self.status.set_text("")
        self.show_choices()
        self.show_form()

    def show_choices(self) -> None:
        """The choice of a model, and of another one with the same inputs."""
        self.choices.clear()
        names = list(self.models)
        with self.choices:
            if len(names) > 1:
                first = ui.select(
                    names, label="Model", value=self.model, on_change=self.choose_model
                )
                first.classes("choice").props("outlined options-dense")
            else:
                ui.label(self.model).classes("choice hint")
            if comparable := self.comparable_models():
                options: dict[str, str] = {"": "none", **{name: name for name in comparable}}
                second = ui.select(options, label="Compare with", value=self.other or "")
                second.classes("choice").props("outlined options-dense")
                second.on_value_change(self.choose_other)

    def comparable_models(self) -> list[str]:
        kinds = field_kinds(self.signature(self.model))
        others = [name for name in self.models if name != self.model]
        return [name for name in others if field_kinds(self.signature(name)) == kinds]

    def signature(self, name: str) -> Signature:
        return page_signature(self.models[name].version(None).signatures)

    def choose_model(self, event: events.ValueChangeEventArguments) -> None:
        before = input_fields(self.signature(self.model))
        self.model, self.other = event.value, None
        self.show_choices()
        after = input_fields(self.signature(self.model))
        # What was typed stays where the fields look the same: texts are all labelled "Text".
        if _kinds_and_labels(after) != _kinds_and_labels(before):
            self.show_form()
        self.results.clear()
        self.show_error("")

    def choose_other(self, event: events.ValueChangeEventArguments) -> None:
        self.other = event.value or None
        self.results.clear()
        self.show_error("")

    def show_form(self) -> None:
        """A field for each input, and the button."""
        self.form.clear()
        fields = input_fields(self.signature(self.model))
        self.entries = [None] * len(fields)
        with self.form:
            for index, (field, label) in enumerate(zip(fields, _labels(fields), strict=True)):
                enter = partial(self.enter, index)
                if field.kind == "file":
                    self.add_upload(field, enter)
                elif field.kind == "number":
                    add_number(label, enter)
                else:
                    add_text_area(label, enter, self.submit)
            with ui.element("div").classes("line").style("margin-block-start: .75rem"):
                self.button = ui.button("Predict").props("type=submit no-caps unelevated")
                has_text = any(field.kind not in ("file", "number") for field in fields)
                shortcut = "Ctrl + Enter sends it, too. " if has_text else ""
                ui.label(f"{shortcut}Nothing that you enter is stored.").classes("hint")

    def add_upload(self, field: InputField, enter: Callable[[Entry], None]) -> None:
        async def enter_and_submit(content: bytes) -> None:
            enter(content)
            await self.submit()

        # Base64 makes four letters of three bytes, and the request has names besides.
        largest = self.models.settings.max_body * 3 // 4 - 1000
        add_upload(field, largest, enter_and_submit, self.show_error)

    def enter(self, index: int, value: Entry) -> None:
        self.entries[index] = value

    def show_error(self, reason: str) -> None:
        self.status.set_text("")
        self.error.set_text(reason)
        self.error.set_visibility(bool(reason))

    async def submit(self) -> None:
        """Sends the entries to the chosen models concurrently, like requests of the API."""
        self.show_error("")
        self.status.set_text("Predicting …")
        self.button.props("loading")
        start = time.perf_counter()
        names = [name for name in (self.model, self.other) if name]
        results = await asyncio.gather(*map(self.predict, names))
        self.button.props(remove="loading")
        errors = [result for result in results if isinstance(result, RequestError)]
        if len(errors) == len(results):
            self.results.clear()
            self.show_error(errors[0].reason)
            return
        self.status.set_text(f"Predicted in {time.perf_counter() - start:.2f} s.")
        self.show_results(names, results)

    async def predict(self, name: str) -> str | RequestError:
        """A model's outputs as HTML."""
        entries, limit = list(self.entries), self.models.settings.max_body

        async def make_body() -> bytes:
            body = await asyncio.to_thread(request_body, self.signature(name), entries)
            if len(body) > limit:
                raise too_large(limit)
            return body

        try:
            return await handle_predict(
                self.models,
                name,
                None,
                read_body=make_body,
                render=lambda _, outputs: render_outputs(outputs),
            )
        except RequestError as error:
            return error
        except Exception:
            log.exception("A defect: the page has no outputs of %s.", name)
            return InternalError()

    def show_results(self, names: list[str], results: list[str | RequestError]) -> None:
        self.results.clear()
        self.results.classes(
            add="two" if len(names) > 1 else "", remove="two" if len(names) < 2 else ""
        )
        with self.results:
            for name, result in zip(names, results, strict=True):
                with ui.element("article").classes("card").props(f"aria-label='{name}'"):
                    # Not sanitized: checks.py accepts no "<" in a name, rendering.py escapes all.
                    ui.html(name, tag="h2", sanitize=False)
                    if isinstance(result, RequestError):
                        ui.label(result.reason).classes("error").props("role=alert")
                    else:
                        ui.html(result, sanitize=False)


def _labels(fields: list[InputField]) -> list[str]:
    """The fields' labels. A single text is "Text", whatever a model calls it."""
    if [field.kind for field in fields] == ["text"]:
        return ["Text"]
    return [field.label for field in fields]


def _kinds_and_labels(fields: list[InputField]) -> list[tuple[str, str]]:
    return [(f.kind, label) for f, label in zip(fields, _labels(fields), strict=True)]
