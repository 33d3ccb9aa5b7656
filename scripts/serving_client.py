"""Sends image files to a running TensorFlow Serving; needs nothing of this project.

  python serving_client.py rest localhost:8501 MODEL OUT cat.jpg dog.png
  python serving_client.py grpc localhost:8500 MODEL OUT cat.jpg dog.png

For cat.jpg it writes OUT/cat.png, an 8-bit grey PNG whose values are the classes, and OUT/cat_colour.png. Two images
that would get files of one name are refused before anything is sent. `rest` needs Python only; `grpc` needs the package
tensorflow-serving-api. Exit status: 0, or 2 with one line that says what is wrong.
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn


def fail(message: str) -> NoReturn:
    """Ends with one line and status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def send_rest(address: str, model: str, images: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the mask and the colours of each image, PNG bytes, by HTTP."""
    request = {
        "signature_name": "encoded_rest",
        "instances": [{"images": {"b64": base64.b64encode(image).decode()}} for image in images],
    }
    url = f"http://{address}/v1/models/{model}:predict"
    try:
        with urllib.request.urlopen(url, json.dumps(request).encode(), timeout=300) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        fail(f"the server answered {error.code}: {error.read().decode(errors='replace')}")
    except (urllib.error.URLError, OSError) as error:
        fail(f"no answer from {url} ({getattr(error, 'reason', error)}); is TensorFlow Serving running there?")
    except (KeyError, ValueError) as error:
        fail(f"{url} did not answer as TensorFlow Serving does ({error!r})")
    names = ("labels_png_bytes", "colour_png_bytes")
    return [tuple(base64.b64decode(one[name]["b64"]) for name in names) for one in predictions]


def send_grpc(address: str, model: str, images: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the same by gRPC."""
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        fail(f"grpc needs a package that is missing ({error}): pip install tensorflow-serving-api, or take rest")

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "encoded"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images, tf.string))
    # Pixels instead of files: the signature serving_default and
    # tf.make_tensor_proto(array), uint8 [B, H, W, 3]; it returns labels and confidence.
    largest = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, largest) as channel:
        try:
            outputs = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 300).outputs
        except grpc.RpcError as error:
            fail(f"the server at {address} answered {error.code().name}: {error.details()}")
    return list(zip(outputs["labels_png"].string_val, outputs["colour_png"].string_val, strict=True))


def main() -> None:
    """Sends all images in one request and writes what comes back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=["rest", "grpc"])
    parser.add_argument("address", help="HOST:PORT; 8501 is the usual port of rest, 8500 that of grpc")
    parser.add_argument("model", help="the name that the server knows the model by")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("images", type=Path, nargs="+", help="JPEG or PNG files")
    values = parser.parse_args()
    paths: dict[str, Path] = {}
    for path in values.images:
        if path.stem in paths:
            fail(f"{paths[path.stem]} and {path} would both become {path.stem}.png; send them to different folders")
        paths[path.stem] = path
    try:
        images = [path.read_bytes() for path in paths.values()]
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}")
    send = {"rest": send_rest, "grpc": send_grpc}[values.protocol]
    results = send(values.address, values.model, images)
    try:
        values.out.mkdir(parents=True, exist_ok=True)
        for (stem, path), (labels, colours) in zip(paths.items(), results, strict=True):
            (values.out / f"{stem}.png").write_bytes(labels)
            (values.out / f"{stem}_colour.png").write_bytes(colours)
            print(f"{path}: {values.out}/{stem}.png")
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
