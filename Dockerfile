# Serves a store: the page and the API. Built for CPUs; the networks lie in the data volume.
FROM python:3.12-slim-bookworm

RUN groupadd --gid 10001 seeker && useradd --uid 10001 --gid seeker --create-home seeker
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir ".[web,openvino,milvus]"

RUN mkdir /data && chown seeker:seeker /data
USER seeker
ENV PERSONSEARCH_STORE=/data/store XDG_DATA_HOME=/data XDG_CACHE_HOME=/data/cache
VOLUME /data
EXPOSE 8008
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8008/healthz', timeout=4)"]
# Others reach a container's address, so this asks for a key.
CMD ["personsearch", "serve", "--host", "0.0.0.0", "--log-json"]
