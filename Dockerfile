# The container image; packaging/README.md tells why each line is here.
#
#   docker build -t fondation-worker .
#   docker build --build-arg BASE=debian:trixie-slim --build-arg WITH_CLAUDE=0 -t fondation-worker .
ARG BASE=debian:bookworm-slim
# sha256:…, as the registry says it. None is given here that was not read from one.
ARG BASE_DIGEST=""

# What the worker needs of Debian; the build starts from the same, so that both have one Python.
FROM ${BASE}${BASE_DIGEST:+@$BASE_DIGEST} AS base
ARG SOURCE_DATE_EPOCH
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates git python3 tini \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/cache/debconf/*-old \
        /var/lib/dpkg/*-old /var/log/*

FROM base AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv
WORKDIR /build
COPY . .
ARG SOURCE_DATE_EPOCH
# Where packages come from, when not from the usual places.
ARG PIP_INDEX_URL
ARG NPM_CONFIG_REGISTRY
RUN debian/build-environment /usr/bin/python3 requirements/run.txt /usr/local/lib/fondation-worker
ARG WITH_CLAUDE=1
RUN case "$WITH_CLAUDE" in \
    1) python3 -m venv npm \
        && npm/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements/image.txt \
        && PATH="$PWD/npm/bin:$PATH" /usr/local/lib/fondation-worker/bin/fondation-worker install-claude ;; \
    0) mkdir /opt/fondation-worker ;; \
    *) echo "WITH_CLAUDE=$WITH_CLAUDE: 1 puts the Claude CLI into the image, 0 leaves it out" >&2; exit 64 ;; \
    esac
RUN install --mode=0755 packaging/image/claude /usr/local/bin/claude

FROM base
ARG SOURCE_DATE_EPOCH
RUN groupadd --gid 1001 worker \
    && useradd --uid 1001 --gid worker --home-dir /home/worker --no-create-home --no-log-init \
        --shell /usr/sbin/nologin worker \
    && install --directory --owner=worker --group=worker /home/worker \
    && install --directory --owner=worker --group=worker --mode=0700 \
        /home/worker/.claude /var/lib/fondation-worker \
    && install --directory --mode=1777 /tmp/fondation \
    && ln -s /usr/local/lib/fondation-worker/bin/fondation-worker /usr/local/bin/fondation-worker
COPY --from=build /usr/local/lib/fondation-worker /usr/local/lib/fondation-worker
COPY --from=build /build/.build/package/documents/sbom.cdx.json /usr/local/share/doc/fondation-worker/
COPY --from=build /opt/fondation-worker /opt/fondation-worker
COPY --from=build /usr/local/bin/claude /usr/local/bin/claude

ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/worker \
    LANG=C.UTF-8 \
    CLAUDE_CONFIG_DIR=/home/worker/.claude \
    CLAUDE_CLI=/opt/fondation-worker/bin/claude \
    STATE_DIR=/var/lib/fondation-worker/state \
    TEMP_DIR=/tmp/fondation/work \
    CONTROL_SOCKET=/tmp/fondation-worker.sock \
    HEALTH_ADDRESS=0.0.0.0:8080 \
    LOG_FORMAT=json \
    DRAIN_TIME=7s
USER 1001:1001
WORKDIR /home/worker
VOLUME /var/lib/fondation-worker
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["fondation-worker", "health"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["fondation-worker", "run"]

ARG BASE
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="fondation-worker" \
    org.opencontainers.image.description="Takes code-analysis jobs from Convex, runs the Claude CLI over a repository, saves the results" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.base.name="${BASE}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"
