"""procrastinate, whose queue is in PostgreSQL: setup, enqueue COUNT [RATE], work."""

import asyncio

import procrastinate
import uvloop

import job

connector = procrastinate.PsycopgConnector(conninfo=job.DATABASE_URL, min_size=4, max_size=job.CONCURRENCY)
app = procrastinate.App(connector=connector)
jobs = job.AsyncJobs()


@app.task(name="run")
async def run(name, sent):
    await jobs.run(name, sent)


async def prepare():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue(count, rate):
    async with app.open_async():
        await job.ask(lambda name, sent: run.defer_async(name=name, sent=sent), count, rate)


async def work():
    await jobs.open()
    async with app.open_async():
        await app.run_worker_async(concurrency=job.CONCURRENCY, delete_jobs="never")


if __name__ == "__main__":
    verb, count, rate = job.arguments()
    if verb == "setup":
        job.setup("peer.procrastinate")
        asyncio.run(prepare())
    elif verb == "enqueue":
        asyncio.run(enqueue(count, rate))
    else:
        uvloop.run(work())
