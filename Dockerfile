# The gateway as an unprivileged user. Data (database, embedded store, secrets) lives in the volume /data.
FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r requirements.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data llmproxy && install -d -o llmproxy -m 0700 /data
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY llmproxy_site llmproxy_site
COPY routing routing
COPY cache_app cache_app
COPY stats stats
RUN /venv/bin/python -m compileall -q llmproxy_site routing cache_app stats
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 LLMPROXY_DATA_DIR=/data
USER llmproxy
VOLUME /data
EXPOSE 4243
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4243/health/live', timeout=2)"]
# exec form: SIGTERM reaches the server, which drains
ENTRYPOINT ["python", "manage.py"]
CMD ["serve"]
