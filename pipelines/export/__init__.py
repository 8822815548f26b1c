"""Exports of a trained run for other programs: SavedModel, LiteRT, ONNX, model card."""
