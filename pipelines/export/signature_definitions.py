"""A SavedModel's signatures, read without loading its graph."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.core.types import JsonObject


def signature_definitions(directory: Path) -> JsonObject:
    """By name, the SignatureDef as JSON has it, with TensorFlow's own names of fields.

    Raises OSError if there is none, and protobuf's DecodeError if it is damaged.
    """
    from google.protobuf.json_format import MessageToDict
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((directory / "saved_model.pb").read_bytes())
    graph = next(graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags)
    definitions = {
        name: MessageToDict(
            definition,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, definition in graph.signature_def.items()
    }
    return json.loads(json.dumps(definitions, sort_keys=True))  # protobuf's order is by chance
