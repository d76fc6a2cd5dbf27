# The images of Weir, a target each: docker build --target ingest . (images/build builds all.)
#
# The programs are built once, static, and each image is BASE with one program and the certificates of public authorities. With BASE=scratch there is
# no shell to debug with: kubectl debug brings one. No instruction needs BuildKit.
ARG BASE=scratch
# The version of rust-toolchain.toml, which the build does not see: it would have rustup fetch the lints too.
ARG BUILD=docker.io/library/rust:1.95.0-bookworm

# images/build --programs puts a stage with programs that are built already in the place of this one, up to the empty line.
FROM ${BUILD} AS programs
WORKDIR /src
COPY . .
ARG CARGO_PROFILE_IMAGE_LTO
# What was compiled is larger than all images together, and not wanted in the layer.
RUN images/collect /programs && rm -rf target

FROM ${BASE} AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Weir" \
      org.opencontainers.image.description="A metrics platform: remote write in, PromQL out, alert rules as resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=programs /programs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 9360

FROM base AS queue
LABEL org.opencontainers.image.title="weir-queue"
COPY --from=programs /programs/weir-queue /weir-queue
EXPOSE 9092
ENTRYPOINT ["/weir-queue"]

FROM base AS ingest
LABEL org.opencontainers.image.title="weir-ingest"
COPY --from=programs /programs/weir-ingest /weir-ingest
ENTRYPOINT ["/weir-ingest"]

FROM base AS storage
LABEL org.opencontainers.image.title="weir-storage"
COPY --from=programs /programs/weir-storage /weir-storage
ENTRYPOINT ["/weir-storage"]

FROM base AS query
LABEL org.opencontainers.image.title="weir-query"
COPY --from=programs /programs/weir-query /weir-query
ENTRYPOINT ["/weir-query"]

FROM base AS alerting
LABEL org.opencontainers.image.title="weir-alerting"
COPY --from=programs /programs/weir-alerting /weir-alerting
ENTRYPOINT ["/weir-alerting"]

FROM base AS controller
LABEL org.opencontainers.image.title="weir-controller"
COPY --from=programs /programs/weir-controller /weir-controller
EXPOSE 9443
ENTRYPOINT ["/weir-controller"]

# Everything in one process, and the command line.
FROM base AS weir
COPY --from=programs /programs/weir /weir
ENTRYPOINT ["/weir"]
