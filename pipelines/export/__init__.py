"""What a trained run gives to other programs: SavedModel, LiteRT, ONNX, model card."""
