# Training, evaluation and prediction on NVIDIA GPUs.
#
# This file has not been built: it was written where images cannot be downloaded. The same requirements were installed
# and run on an NVIDIA H200 without a container.
#
# The CUDA libraries come with TensorFlow's packages; the machine needs the NVIDIA driver and its container toolkit.
#
#   docker build -f docker/train.Dockerfile -t deeplab-train .
#   docker run --rm --gpus=all -u "$(id -u):$(id -g)" -v "$PWD/data:/work/data" -v "$PWD/runs:/work/runs" \
#     deeplab-train train.py --experiment=resnet101_aspp --data_dir=data/mine --workdir=runs/mine
FROM python:3.12-slim

WORKDIR /work
# Before the code, so that a change of the code does not install everything again.
COPY requirements.txt requirements-gpu.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements-gpu.txt -c constraints.txt
COPY . .
# The user of `docker run -u` has no home: downloaded weights and compiled kernels go where anybody may write.
ENV KERAS_HOME=/tmp/keras NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib

ENTRYPOINT ["python"]
CMD ["train.py", "--help"]
