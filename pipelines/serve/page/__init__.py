"""The web page at "/": a person sends inputs to a model, and sees its outputs and their reasons.

The form depends on a signature's inputs only (fields.py), and what is shown on its outputs only
(rendering.py); neither knows any task. The browser loads everything from this server.
"""

from __future__ import annotations

import importlib.util

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines.serve.served_models import ServedModels

PACKAGES = ("nicegui", "websockets")

INSTALL_HINT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Recurrent models</title>
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
body {{ max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>Recurrent models</h1>
<p>The API is at <code>/v1/models/NAME:predict</code>; NAME is {names}.</p>
<p>The page on which models can be tried needs {missing}. Run <code>pip install '.[web]'</code> and
start the server again.</p>
"""


def is_page_path(path: str) -> bool:
    """Whether a URL's path is the page's, or one that the page loads something from."""
    return path == "/" or path.startswith(("/_nicegui/", "/_nicegui_ws/"))


def create_page(models: ServedModels) -> ASGIApp:
    """The page's application; without the extra `web`, one that says how to install it."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        from pipelines.serve.page.site import create_site

        return create_site(models)
    html = INSTALL_HINT.format(names=" or ".join(models), missing=" and ".join(missing))

    async def show_hint(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    return Starlette(routes=[Route("/", show_hint)])
