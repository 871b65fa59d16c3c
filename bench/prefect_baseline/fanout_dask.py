"""fan-out of N: task.map on a Dask cluster that stands. usage: fanout_dask.py N ADDRESS"""
import sys
from prefect import flow, task
from prefect_dask import DaskTaskRunner
@task
def sq(x: int) -> int:
    return x * x
@flow
def fanout(n: int = 100) -> int:
    return sum(f.result() for f in sq.map(list(range(n))))
if __name__ == "__main__":
    n = int(sys.argv[1])
    on_dask = fanout.with_options(task_runner=DaskTaskRunner(address=sys.argv[2]))
    r = on_dask(n); assert r == sum(i*i for i in range(n)), r; print(r)
