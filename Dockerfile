# The images of Weir, a target each: docker build --target ingest . (images/build builds all.)
#
# The programs are built once, static, and each image is BASE with one program and the certificates of public authorities. With BASE=scratch there is
# no shell to debug with: kubectl debug brings one.
ARG BASE=scratch
ARG BUILD=docker.io/library/rust:1.95-bookworm

# Another context called `programs` takes the place of this stage where the programs are built already (images/build --programs).
FROM ${BUILD} AS programs
WORKDIR /src
COPY . .
RUN mkdir -p /programs && cp "$(images/binaries)"/weir* /programs/ && rm -f /programs/*.d \
    && cp /etc/ssl/certs/ca-certificates.crt /programs/

FROM ${BASE} AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Weir" \
      org.opencontainers.image.description="A metrics platform: remote write in, PromQL out, alert rules as resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=programs --chmod=0444 /programs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 9360

FROM base AS queue
LABEL org.opencontainers.image.title="weir-queue"
COPY --from=programs --chmod=0555 /programs/weir-queue /weir-queue
EXPOSE 9092
ENTRYPOINT ["/weir-queue"]

FROM base AS ingest
LABEL org.opencontainers.image.title="weir-ingest"
COPY --from=programs --chmod=0555 /programs/weir-ingest /weir-ingest
ENTRYPOINT ["/weir-ingest"]

FROM base AS storage
LABEL org.opencontainers.image.title="weir-storage"
COPY --from=programs --chmod=0555 /programs/weir-storage /weir-storage
ENTRYPOINT ["/weir-storage"]

FROM base AS query
LABEL org.opencontainers.image.title="weir-query"
COPY --from=programs --chmod=0555 /programs/weir-query /weir-query
ENTRYPOINT ["/weir-query"]

FROM base AS alerting
LABEL org.opencontainers.image.title="weir-alerting"
COPY --from=programs --chmod=0555 /programs/weir-alerting /weir-alerting
ENTRYPOINT ["/weir-alerting"]

FROM base AS controller
LABEL org.opencontainers.image.title="weir-controller"
COPY --from=programs --chmod=0555 /programs/weir-controller /weir-controller
EXPOSE 9443
ENTRYPOINT ["/weir-controller"]

# Everything in one process, and the command line.
FROM base AS weir
COPY --from=programs --chmod=0555 /programs/weir /weir
ENTRYPOINT ["/weir"]
