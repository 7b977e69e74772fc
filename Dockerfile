# Engram in a container:
#
#   docker build -t engram .
#   docker run -d --name engram -p 7432:7432 -v engram:/data -e ENGRAM_API_KEY=… --stop-timeout 60 engram
#
# It listens beyond its own loopback, so it wants a key: ENGRAM_API_KEY is one that may do everything, or ENGRAM_API_KEY_FILE a
# file with it; `docker exec engram engram key create --name agent` makes others. Each setting is a variable: `docker run --rm
# engram start --help`. What is in /data is all there is to keep: give it a volume, on a disk that keeps what it has synced.

FROM rust:1.95-slim-trixie AS build
# The image has the C compiler that a dependency needs.
WORKDIR /src
# The manifests name their tests and benches by path, so all of the sources come along (.dockerignore leaves out the rest).
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p engram-cli --bin engram \
    && install -D target/release/engram /out/engram \
    && strip /out/engram

FROM debian:trixie-slim
# Certificates are for an embedding endpoint that is asked by TLS. Of these packages the newest is wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 7432 --home-dir /data --shell /usr/sbin/nologin engram \
    && install -d -o engram -g engram -m 700 /data
COPY --from=build /out/engram /usr/local/bin/engram
# By number, so that a cluster can tell that it is not root.
USER 7432
ENV ENGRAM_DATA_DIR=/data ENGRAM_LISTEN=0.0.0.0:7432
VOLUME /data
EXPOSE 7432
STOPSIGNAL SIGTERM
# 77: a server answers, and wants a key that this check has not. A server with TLS is found by ENGRAM_SERVER=https://NAME:7432.
# While it recovers it is not healthy yet; a recovery that takes longer than the start period is no reason to kill it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["sh", "-c", "engram status >/dev/null || [ $? -eq 77 ]"]
ENTRYPOINT ["engram"]
CMD ["start"]
