"""Networks for other programs: SavedModel, TensorFlow Lite, ONNX, OpenVINO, and loading them again.

A format is a file of this room, which ends in its `KIND`, and its names below. export.py and load.py go through these.
"""

FORMATS = {
    "saved_model": "saved_model",
    **dict.fromkeys(("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8"), "tflite"),
    **dict.fromkeys(("onnx", "onnx_float16", "onnx_int8"), "onnx"),
    **dict.fromkeys(("openvino", "openvino_int8"), "openvino"),
}
"""What can be written, and the module of this package that writes and loads it."""
