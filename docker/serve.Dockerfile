# An exported network in TensorFlow Serving, on CPUs: REST at port 8501, gRPC at 8500.
#
# This file has not been built: it was written where images cannot be downloaded. The SavedModels of export.py were
# loaded and run with TensorFlow 2.21.
#
#   python export.py --workdir=runs/mine --out=exported/mine --crf
#   docker build -f docker/serve.Dockerfile --build-arg SAVED_MODEL=exported/mine/saved_model -t deeplab-serve .
#   docker run --rm -p 8500:8500 -p 8501:8501 deeplab-serve
#   python scripts/serving_client.py rest localhost:8501 deeplab results/served cat.jpg
FROM tensorflow/serving:latest

ARG SAVED_MODEL=exported/mine/saved_model
# The folder with the folder 1 in it; a second version is a folder 2 beside that.
COPY ${SAVED_MODEL} /models/deeplab
# The second packs each kernel once instead of at every image.
ENV MODEL_NAME=deeplab TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1
