# The embedded loop in one image: Airflow, MLflow, features and the gateway, as `make demo` runs them.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make git libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /mercato
COPY . .
RUN make .venv
ENV MERCATO_HOME=/data MERCATO_URL=http://0.0.0.0:3000 PATH=/mercato/.venv/bin:$PATH
VOLUME /data
EXPOSE 3000
CMD ["mercato", "demo"]
