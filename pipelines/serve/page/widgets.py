"""The form's fields as NiceGUI's elements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

from pipelines.serve.page.fields import InputField

UPLOAD_HEADER = """
<div class="inside">
  <q-btn no-caps unelevated color="primary" label="Choose %(what)s" @click="props.pickFiles">
    <q-uploader-add-trigger />
  </q-btn>
  <span class="hint">or drop it here%(formats)s</span>
  <img v-if="props.files.length && props.files[props.files.length - 1].__img"
       :src="props.files[props.files.length - 1].__img.src" alt="The chosen image" />
</div>
"""


def add_text_area(
    label: str, enter: Callable[[str], None], submit: Callable[[], Awaitable[None]]
) -> None:
    """A text area that grows with its text. Ctrl or Cmd and Enter submit the form."""
    area = ui.textarea(label, on_change=lambda event: enter(event.value or ""))
    area.props("outlined autogrow dir=auto")
    area.on("keydown.ctrl.enter", submit)
    area.on("keydown.meta.enter", submit)


def add_number(label: str, enter: Callable[[str], None]) -> None:
    """A number field. It gives the text as typed: as a float, a large integer loses digits."""
    number = ui.input(label, on_change=lambda event: enter(str(event.value or "")))
    number.props("outlined type=number step=any")


def add_upload(
    field: InputField,
    largest: int,
    enter: Callable[[bytes], Awaitable[None]],
    show_error: Callable[[str], None],
) -> None:
    """A button and an area to drop a file on, which is sent at once; `largest` in bytes."""
    kind = "image" if field.is_image else "file"

    async def receive_file(event: events.UploadEventArguments) -> None:
        await enter(await event.file.read())

    upload = ui.upload(
        auto_upload=True,
        max_file_size=largest,
        on_upload=receive_file,
        on_rejected=lambda: show_error(f"The {kind} must have no more than {largest:,} bytes."),
    )
    upload.classes("drop").props("flat bordered")
    if field.is_image:
        upload.props("accept='image/*'")
    header = {
        "what": "an image" if field.is_image else f"a file for {field.name}",
        "formats": ": PNG, JPEG, GIF, BMP or WebP" if field.is_image else "",
    }
    upload.add_slot("header", UPLOAD_HEADER % header)
    upload.on("failed", lambda: show_error(f"The {kind} could not be sent: try again."), args=[])
