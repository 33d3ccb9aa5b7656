"""Asks a running TensorFlow Serving about image files; needs nothing of this project.

  python serving_client.py rest localhost:8501 MODEL OUT cat.jpg dog.png
  python serving_client.py grpc localhost:8500 MODEL OUT cat.jpg dog.png

It writes OUT/cat.png, an 8-bit grey PNG whose values are the classes, and OUT/cat_colour.png. `rest` needs Python only;
`grpc` needs the package tensorflow-serving-api.
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def ask_rest(address: str, model: str, images: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the mask and the colours of each image, PNG bytes, by HTTP."""
    request = {
        "signature_name": "encoded_rest",
        "instances": [{"images": {"b64": base64.b64encode(image).decode()}} for image in images],
    }
    url = f"http://{address}/v1/models/{model}:predict"
    try:
        with urllib.request.urlopen(url, json.dumps(request).encode(), timeout=300) as answer:
            predictions = json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        sys.exit(f"error: the server answered {error.code}: {error.read().decode(errors='replace')}")
    names = ("labels_png_bytes", "colour_png_bytes")
    return [tuple(base64.b64decode(one[name]["b64"]) for name in names) for one in predictions]


def ask_grpc(address: str, model: str, images: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the same by gRPC."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "encoded"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images, tf.string))
    # Pixels instead of files: the signature serving_default and
    # tf.make_tensor_proto(array), uint8 [B, H, W, 3]; it answers labels and confidence.
    largest = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, largest) as channel:
        try:
            outputs = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 300).outputs
        except grpc.RpcError as error:
            sys.exit(f"error: the server answered {error.code().name}: {error.details()}")
    return list(zip(outputs["labels_png"].string_val, outputs["colour_png"].string_val, strict=True))


def main(protocol: str, address: str, model: str, out: str, *paths: str) -> None:
    """Sends all images in one request and writes the answers."""
    ask = {"rest": ask_rest, "grpc": ask_grpc}[protocol]
    answers = ask(address, model, [Path(path).read_bytes() for path in paths])
    Path(out).mkdir(exist_ok=True)
    for path, (labels, colours) in zip(paths, answers, strict=True):
        stem = Path(path).stem
        (Path(out) / f"{stem}.png").write_bytes(labels)
        (Path(out) / f"{stem}_colour.png").write_bytes(colours)
        print(f"{path}: {out}/{stem}.png")


if __name__ == "__main__":
    if len(sys.argv) < 6 or sys.argv[1] not in ("rest", "grpc"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
