# One pattern for every image: the member's locked dependencies, then our own code, then a slim final stage.
#   docker build --build-arg MEMBER=gateway -t msp/gateway .
# Works with the classic builder of Docker 20.10 too: no BuildKit syntax.
ARG BASE_IMAGE=python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_LINK_MODE=copy UV_NO_CACHE=1
# The tools that install and build, in an environment of their own that no image contains.
COPY requirements/build.txt /build/requirements/
RUN python3 -m venv /build/tools && /build/tools/bin/pip install --quiet --require-hashes -r /build/requirements/build.txt
ARG MEMBER
COPY requirements/${MEMBER}.txt /build/requirements/
# Bytecode is compiled here, since containers cannot write it: a worker would otherwise spend most of its
# start compiling torch and transformers anew.
RUN python3 -m venv --without-pip /opt/msp \
    && /build/tools/bin/uv pip install --quiet --compile-bytecode --python /opt/msp/bin/python --require-hashes \
        -r /build/requirements/${MEMBER}.txt
# Our own code lies beside them, in a layer of its own: a change of it moves kilobytes, not the worker's gigabytes.
RUN echo /opt/msp-own >"$(echo /opt/msp/lib/python3*/site-packages)/msp-own.pth"

FROM dependencies AS build
ARG MEMBER
COPY common /build/common
COPY ${MEMBER} /build/${MEMBER}
RUN for source in common ${MEMBER}; do \
        (cd /build/$source && /build/tools/bin/hatchling build --target wheel --directory /build/wheels) || exit 1; \
    done \
    && /build/tools/bin/uv pip install --quiet --compile-bytecode --python /opt/msp/bin/python --no-deps \
        --target /opt/msp-own /build/wheels/*.whl

FROM ${BASE_IMAGE}
ARG MEMBER
ARG PACKAGE
# A fixed number, so that volumes keep their owner from one image to the next.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin msp \
    && install -d -o msp -g msp /cache /data
COPY --from=dependencies /opt/msp /opt/msp
COPY --from=build /opt/msp-own /opt/msp-own
ENV PATH=/opt/msp-own/bin:/opt/msp/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json MSP_PACKAGE=${PACKAGE}
LABEL org.opencontainers.image.title="msp-${MEMBER}" org.opencontainers.image.licenses="MIT"
USER msp
WORKDIR /home/msp
CMD ["sh", "-c", "exec python -m \"$MSP_PACKAGE\""]
