"""FastStream on RabbitMQ: setup, enqueue COUNT [RATE], work."""

import asyncio

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

import job

QUEUE = RabbitQueue("peer.faststream", queue_type=QueueType.QUORUM, durable=True)

broker = RabbitBroker(job.AMQP_URL, default_channel=Channel(prefetch_count=job.CONCURRENCY), logger=None)
app = FastStream(broker, logger=None)
jobs = job.AsyncJobs()


@app.on_startup
async def begin():
    await jobs.open()


@broker.subscriber(QUEUE, ack_policy=AckPolicy.NACK_ON_ERROR)
async def run(body: dict) -> None:
    await jobs.run(body["job"], body["sent"])


async def enqueue(count, rate):
    async with RabbitBroker(job.AMQP_URL, logger=None) as sender:
        await sender.declare_queue(QUEUE)

        async def send(name, sent):
            await sender.publish({"job": name, "sent": sent}, queue=QUEUE, persist=True)

        await job.ask(send, count, rate)


if __name__ == "__main__":
    verb, count, rate = job.arguments()
    if verb == "setup":
        job.setup(QUEUE.name)
    elif verb == "enqueue":
        asyncio.run(enqueue(count, rate))
    else:
        uvloop.run(app.run())
