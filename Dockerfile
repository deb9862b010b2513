# docker build -t tollgate .
# docker run -p 8080:8080 -v ./gateway.toml:/etc/tollgate/gateway.toml:ro tollgate

FROM rust:1-slim-bookworm AS build
WORKDIR /src
# The allocator is C, configured and built by make.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cargo build --locked --release --bin tollgate

# glibc and CA certificates, no shell, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
COPY --from=build /src/gateway.toml /etc/tollgate/gateway.toml
USER nonroot
WORKDIR /etc/tollgate
EXPOSE 8080
# The image has no curl: the binary asks its own admin listener.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/tollgate", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run"]
