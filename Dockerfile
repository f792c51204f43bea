# longwatt with the versions that it was tested with, for machines with and without NVIDIA GPUs.
# docs/how-to/environments.md says how to run it. Build it in the project's folder:
#   docker build --tag longwatt .
FROM python:3.12-slim-bookworm

# The container runtime hands in the driver's libraries: `compute` for CUDA, which comes with torch,
# and `utility` for the meters of power and energy.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Packages change seldom, so they come before the project. The cache spares downloads, and is not in
# the image.
COPY envs/requirements.txt envs/requirements-processors.txt envs/constraints.txt /opt/longwatt/envs/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install -r /opt/longwatt/envs/requirements.txt \
        -c /opt/longwatt/envs/constraints.txt \
    && python -m pip install --no-deps -r /opt/longwatt/envs/requirements-processors.txt

# Root owns the project, so no study can change it.
COPY . /opt/longwatt
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-deps --editable /opt/longwatt \
    && python -m compileall -q /opt/longwatt/workflow \
    && useradd --uid 1000 --create-home longwatt \
    && mkdir --mode 1777 /study

# Any user may run it (`docker run --user`): caches go where results go, and a user without an
# account has a name.
ENV HF_HOME=/study/.cache/huggingface \
    XDG_CACHE_HOME=/study/.cache \
    MPLCONFIGDIR=/study/.cache/matplotlib \
    USER=longwatt
USER 1000:1000
WORKDIR /study
ENTRYPOINT ["longwatt"]
CMD ["--help"]
