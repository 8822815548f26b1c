"""The web page at "/": a person asks a model something, and sees the answer and where it is from.

What is drawn depends on what a signature's inputs and outputs are called, and on no task: see
drawings.py. Everything that the browser loads comes from this server.
"""

from __future__ import annotations

import importlib.util

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines.serve.served_models import Models

PACKAGES = ("nicegui", "websockets")

HOW_TO_GET_IT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Recurrent models</title>
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
body {{ max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>Recurrent models</h1>
<p>The API answers at <code>/v1/models/NAME:predict</code>; NAME is {names}.</p>
<p>The page on which models can be tried needs {lacking}: <code>pip install '.[web]'</code>, and
start the server again.</p>
"""


def is_of_page(path: str) -> bool:
    """Whether a path of the URL is the page's, or that of something the page loads."""
    return path == "/" or path.startswith(("/_nicegui/", "/_nicegui_ws/"))


def page(models: Models) -> ASGIApp:
    """The page's application; without the extra, one that says how to get it."""
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not lacking:
        from pipelines.serve.page.site import site

        return site(models)
    told = HOW_TO_GET_IT.format(names=" or ".join(models), lacking=" and ".join(lacking))

    async def plain(_: Request) -> HTMLResponse:
        return HTMLResponse(told)

    return Starlette(routes=[Route("/", plain)])
