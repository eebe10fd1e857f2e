"""taskiq with taskiq-aio-pika: setup, enqueue COUNT [RATE], work."""

import asyncio

from taskiq import TaskiqEvents
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue, QueueType

import job

QUEUE = "peer.taskiq"

broker = AioPikaBroker(job.AMQP_URL, qos=job.CONCURRENCY, task_queues=[Queue(name=QUEUE, type=QueueType.QUORUM)])
jobs = job.AsyncJobs()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def begin(_state):
    await jobs.open()


@broker.task(task_name="run")
async def run(name: str, sent: float) -> None:
    await jobs.run(name, sent)


async def enqueue(count, rate):
    await broker.startup()
    await job.ask(run.kiq, count, rate)
    await broker.shutdown()


if __name__ == "__main__":
    verb, count, rate = job.arguments()
    if verb == "setup":
        job.setup(QUEUE)
    elif verb == "enqueue":
        asyncio.run(enqueue(count, rate))
    else:
        limit = str(job.CONCURRENCY)
        job.become("taskiq", "worker", "taskiq_peer:broker", "--workers", "1", "--max-async-tasks", limit,
                   "--ack-type", "when_executed", "--log-level", "WARNING")
