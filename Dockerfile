# One binary, its dashboard in it, run by a user that owns nothing but its history.
#
#     docker build -t tidewall .
#     docker run --rm tidewall serve --help

FROM node:22-bookworm-slim AS node

FROM rust:1.95-slim-bookworm AS build
# For build.rs, which has npm build the dashboard.
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /build
# The packages first: they change less often than what uses them.
COPY dashboard/package.json dashboard/package-lock.json dashboard/
RUN cd dashboard && npm ci
COPY Cargo.toml Cargo.lock build.rs ./
COPY benches benches
COPY dashboard dashboard
COPY migrations migrations
COPY src src
# Without the tables for backtraces the binary is a fifth of its size.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo build --release --locked && \
    cp target/release/tidewall /usr/local/bin/

FROM debian:bookworm-slim
# Authorities, for TLS to a database; nothing else of the system is needed.
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --user-group --no-create-home tidewall && \
    install -d -o tidewall -g tidewall -m 0700 /var/lib/tidewall
COPY --from=build /usr/local/bin/tidewall /usr/local/bin/tidewall
USER 10001:10001
WORKDIR /var/lib/tidewall
VOLUME /var/lib/tidewall
# Other addresses than loopback want tokens, or --open: it says so and ends.
ENV TIDEWALL_LISTEN=0.0.0.0:8080 \
    TIDEWALL_HISTORY=sqlite:/var/lib/tidewall \
    TIDEWALL_HISTORY_DIR=/var/lib/tidewall
EXPOSE 8080
STOPSIGNAL SIGTERM
# With a certificate, TIDEWALL_TO and TIDEWALL_CA say where to ask and whom to trust.
HEALTHCHECK --interval=5s --timeout=12s --start-period=20s --retries=3 \
    CMD ["tidewall", "ready"]
ENTRYPOINT ["tidewall"]
CMD ["serve"]
