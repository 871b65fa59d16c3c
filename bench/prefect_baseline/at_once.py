"""N runs at once of the flow of hello.py or chain20.py, as async flows in one process, after one that is
not counted; prints how many end in a second. usage: at_once.py hello|chain20 [N]"""
import asyncio, sys, time
from prefect import flow, task
@task
async def greet(name: str) -> str:
    return f"hello {name}"
@flow
async def hello(name: str = "world") -> str:
    return await greet(name)
@task
async def step(x: int) -> int:
    return x + 1
@flow
async def chain20(x: int = 0) -> int:
    for _ in range(20):
        x = await step(x)
    return x
async def main(name: str, n: int) -> None:
    run, wanted = {"hello": (hello, "hello world"), "chain20": (chain20, 20)}[name]
    await run()
    start = time.perf_counter()
    r = await asyncio.gather(*(run() for _ in range(n)))
    print(n / (time.perf_counter() - start))
    assert r == [wanted] * n, r
if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 25))
