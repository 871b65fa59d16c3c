"""The examples as Prefect flows, compiled when imported: what `prefect.yaml` deploys."""

from pathlib import Path

from compozy_prefect import compile_project

HERE = Path(__file__).resolve().parent

hello_world = compile_project(HERE / "hello-world").flow("hello-world")
market_report = compile_project(HERE / "market-report").flow("market-report")
