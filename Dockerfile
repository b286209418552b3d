# Two images. The first is the sidecar alone: one static binary, no shell, no
# libraries. It is a container of its own beside the worker's (docs/socket.md),
# an init container that installs the binary into a shared volume
# (`sidecar install`), or what a worker's image takes it from:
#
#   COPY --from=graflow-sidecar /sidecar /usr/local/bin/sidecar
#   ENTRYPOINT ["sidecar", "run", "--graflow"]
#
# The second, --target worker, is Python and Graflow with that entrypoint.
#
# Nothing here needs BuildKit; without it name the target, or the one is built
# on the way to the other. Base images are chosen with --build-arg.
ARG GO_IMAGE=golang:1.26
ARG RUN_IMAGE=scratch
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${GO_IMAGE} AS build
WORKDIR /src
# The modules first: they change less often than the sources.
COPY go.mod go.sum ./
RUN go mod download
COPY docs/docs.go docs/operations.md docs/
COPY internal/ internal/
COPY protocol/ protocol/
COPY sidecar/ sidecar/
COPY examples/ examples/
ARG VERSION=0.1.0-dev
# amd64 or arm64; BuildKit sets it, empty is this machine's.
ARG TARGETARCH
# The same sources give the same bytes wherever they lie: no paths, no build id
# (scripts/reproducible compares).
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= -X github.com/graflow/graflow-sidecar/sidecar/internal/version.Number=${VERSION}" \
      -o /out/sidecar ./sidecar \
 && mkdir -m 1777 /out/tmp && mkdir -p /run-dir && mkdir -m 2770 /run-dir/sidecar \
 && if [ -f /etc/ssl/certs/ca-certificates.crt ]; then \
      mkdir -p /out/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/; \
    fi

FROM ${RUN_IMAGE} AS sidecar
# The binary, a /tmp for local Redis and adapters, and the certificates that
# rediss:// is checked against.
COPY --from=build /out/ /
# Where the worker socket is: a new volume that is mounted there has its owner.
COPY --from=build --chown=65532:65532 /run-dir/ /run/
USER 65532:65532
# Reached from outside the container, and by the check below.
ENV SIDECAR_HTTP_ADDR=:8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/sidecar", "healthcheck"]
ENTRYPOINT ["/sidecar"]
CMD ["--help"]

FROM ${PYTHON_IMAGE} AS worker
# What pip is to install; empty where PYTHON_IMAGE has Graflow already.
ARG GRAFLOW="graflow redis"
RUN if [ -n "${GRAFLOW}" ]; then pip install --no-cache-dir --disable-pip-version-check ${GRAFLOW}; fi
COPY --from=build /out/sidecar /usr/local/bin/sidecar
COPY --from=build --chown=65532:65532 /run-dir/ /run/
# The root file system may be read-only.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SIDECAR_HTTP_ADDR=:8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sidecar", "healthcheck"]
USER 65532:65532
ENTRYPOINT ["sidecar"]
CMD ["run", "--graflow"]

# What no --target asks for.
FROM sidecar
