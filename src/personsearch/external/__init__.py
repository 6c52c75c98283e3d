"""A user's own ONNX or OpenVINO networks, described by a TOML."""
