# The sidecar alone: one static binary, no shell, no libraries.
#
# It is the worker container's entrypoint by way of COPY --from, or the image
# of a container of its own for workers that need nothing but their binary:
#
#   COPY --from=graflow-sidecar /sidecar /usr/local/bin/sidecar
#   ENTRYPOINT ["sidecar", "run", "--graflow"]
#
# Nothing here needs BuildKit. Other registries are chosen with --build-arg.
ARG GO_IMAGE=golang:1.26
ARG RUN_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
# The modules first: they change less often than the sources.
COPY go.mod go.sum ./
RUN go mod download
COPY protocol/ protocol/
COPY sidecar/ sidecar/
COPY examples/ examples/
ARG VERSION=0.1.0-dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X github.com/graflow/graflow-sidecar/sidecar/internal/version.Number=${VERSION}" \
      -o /out/sidecar ./sidecar \
 && mkdir -m 1777 /out/tmp \
 && if [ -f /etc/ssl/certs/ca-certificates.crt ]; then \
      mkdir -p /out/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/; \
    fi

FROM ${RUN_IMAGE}
# The binary, a /tmp for local Redis and adapters, and the certificates that
# rediss:// is checked against.
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/sidecar"]
CMD ["--help"]
