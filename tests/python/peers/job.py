"""What each peer of the bench does for a job, and how jobs are asked for.

The guarantees are those of Slipway as far as the peers can give them: the job is acknowledged once it is done, its queue
is a quorum queue, messages are persistent and confirmed, and where the job stands is committed to PostgreSQL before it is
told: twice for each of five stages, or of as many as a deployment has. There is no fence, no outbox, no order among
several workers, and no resume.

With PEER_FENCED there is a fence and an outbox, on an event loop, written as sparingly as a job's author can: a lease that is
taken with the job and renewed for all together, each step and its event in one statement that fails once the lease is
somebody else's, and a task that publishes in order what is committed, as much at once as is there.
"""

import asyncio
import json
import os
import sys
import threading
import time
import uuid

import pika

AMQP_URL = os.environ["PEER_AMQP_URL"]
DATABASE_URL = os.environ["PEER_DATABASE_URL"]
CONCURRENCY = int(os.environ["PEER_CONCURRENCY"])
STAGE_SECONDS = int(os.environ.get("PEER_STAGE_MS", "0")) / 1000
FENCED = os.environ["PEER_FENCED"] != ""
LEASE_SECONDS = 4
OWNER = str(uuid.uuid4())
EVENTS = "peer.events"
STAGES = ("fetch", "configure", "start", "verify", "finish", "open", "hand over")[: int(os.environ["PEER_STAGES"])]
HERE = os.path.dirname(os.path.abspath(__file__))
WINDOW = 100

TABLE = """CREATE TABLE jobs (
    id uuid PRIMARY KEY, state text NOT NULL, stage text, steps integer NOT NULL DEFAULT 0,
    accepted_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now(),
    owner uuid, fence bigint, leased_until timestamptz);
    CREATE TABLE outbox (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job uuid NOT NULL, sequence integer NOT NULL,
    routing_key text NOT NULL, body bytea NOT NULL, UNIQUE (job, sequence))"""
ACCEPT = "INSERT INTO jobs (id, state) VALUES ({0}, 'accepted') ON CONFLICT (id) DO NOTHING"
MOVE = "UPDATE jobs SET state = {1}, stage = {2}, steps = steps + 1, changed_at = now() WHERE id = {0}"

# A job that comes again is begun by whoever finds its lease expired.
CLAIM = f"""INSERT INTO jobs AS j (id, state, owner, fence, leased_until)
    VALUES ($1, 'accepted', $2, 1, now() + interval '{LEASE_SECONDS} s')
    ON CONFLICT (id) DO UPDATE SET owner = $2, fence = j.fence + 1, leased_until = excluded.leased_until
    WHERE j.leased_until < now() AND j.state <> 'succeeded' RETURNING fence"""
STEP = """WITH moved AS (
    UPDATE jobs SET state = $2, stage = $3, steps = steps + 1, changed_at = now() WHERE id = $1 AND fence = $4 RETURNING id)
    INSERT INTO outbox (job, sequence, routing_key, body) SELECT id, $5, $6, $7 FROM moved RETURNING number"""
RENEW = f"""UPDATE jobs SET leased_until = now() + interval '{LEASE_SECONDS} s'
    FROM unnest($1::uuid[], $2::bigint[]) held (job, f) WHERE id = held.job AND fence = held.f"""


def moves():
    """Each step's state, stage, and the routing key of its event."""
    for stage in STAGES:
        yield "started", stage, f"progress.{stage}"
        yield "finished", stage, f"progress.{stage}"
    yield "succeeded", None, "result.succeeded"


def event(job, sequence, state, stage, sent):
    told = {"job": job, "sequence": sequence, "kind": state, "stage": stage, "at": time.time(), "sent": sent}
    return json.dumps(told).encode()


def new_job():
    return str(uuid.uuid4()), time.time()


class AsyncJobs:
    """For peers that run on an event loop."""

    async def open(self):
        import aio_pika
        import asyncpg

        async def nothing(_connection):
            """Instead of what else resets a connection at each return: four statements more than the job's own."""

        # The relay and the renewals have one each.
        count = CONCURRENCY + 2 * FENCED
        size = {"min_size": count, "max_size": count}
        self.pool = await asyncpg.create_pool(DATABASE_URL, reset=nothing, **size)
        self.connection = await aio_pika.connect_robust(AMQP_URL)
        channel = await self.connection.channel(publisher_confirms=True)
        self.exchange = await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True)
        self.persistent = aio_pika.DeliveryMode.PERSISTENT
        self.message = aio_pika.Message
        if FENCED:
            self.fences, self.told = {}, asyncio.Event()
            self.tasks = [asyncio.create_task(self.renew()), asyncio.create_task(self.relay())]
        return self

    async def run(self, job, sent):
        key = uuid.UUID(job)
        if FENCED:
            return await self.run_fenced(job, key, sent)
        await self.pool.execute(ACCEPT.format("$1"), key)
        for sequence, (state, stage, routing_key) in enumerate(moves(), 1):
            if state == "finished" and STAGE_SECONDS:
                await asyncio.sleep(STAGE_SECONDS)
            await self.pool.execute(MOVE.format("$1", "$2", "$3"), key, state, stage)
            message = self.message(event(job, sequence, state, stage, sent), delivery_mode=self.persistent)
            await self.exchange.publish(message, routing_key)

    async def run_fenced(self, job, key, sent):
        fence = await self.pool.fetchval(CLAIM, key, OWNER)
        if fence is None:
            return  # Somebody else has it.
        self.fences[key] = fence
        try:
            for sequence, (state, stage, routing_key) in enumerate(moves(), 1):
                if state == "finished" and STAGE_SECONDS:
                    await asyncio.sleep(STAGE_SECONDS)
                body = event(job, sequence, state, stage, sent)
                if not await self.pool.fetchval(STEP, key, state, stage, fence, sequence, routing_key, body):
                    return  # The lease is lost.
                self.told.set()
        finally:
            del self.fences[key]

    async def renew(self):
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            if self.fences:
                await self.pool.execute(RENEW, list(self.fences), list(self.fences.values()))

    async def relay(self):
        while True:
            await self.told.wait()
            self.told.clear()
            while rows := await self.pool.fetch("SELECT number, routing_key, body FROM outbox ORDER BY number LIMIT 200"):
                # On one channel they arrive in the order in which they are sent, and all confirms are awaited together.
                sending = [
                    asyncio.create_task(
                        self.exchange.publish(self.message(row["body"], delivery_mode=self.persistent), row["routing_key"]))
                    for row in rows
                ]
                await asyncio.gather(*sending)
                await self.pool.execute("DELETE FROM outbox WHERE number = ANY($1)", [row["number"] for row in rows])


class ThreadJobs:
    """For peers that run on threads: a connection to RabbitMQ for each."""

    def __init__(self):
        import psycopg_pool

        size = {"min_size": CONCURRENCY, "max_size": CONCURRENCY}
        self.pool = psycopg_pool.ConnectionPool(DATABASE_URL, kwargs={"autocommit": True}, open=True, **size)
        self.local = threading.local()

    def channel(self):
        if not hasattr(self.local, "channel"):
            parameters = pika.URLParameters(AMQP_URL)
            parameters.heartbeat = 0
            self.local.channel = pika.BlockingConnection(parameters).channel()
            self.local.channel.confirm_delivery()
            self.local.channel.exchange_declare(EVENTS, "topic", durable=True)
        return self.local.channel

    def run(self, job, sent):
        channel = self.channel()
        persistent = pika.BasicProperties(delivery_mode=2)
        with self.pool.connection() as sql:
            sql.execute(ACCEPT.format("%s"), (job,))
        for sequence, (state, stage, routing_key) in enumerate(moves(), 1):
            if state == "finished" and STAGE_SECONDS:
                time.sleep(STAGE_SECONDS)
            with self.pool.connection() as sql:
                sql.execute(MOVE.format("%(job)s", "%(state)s", "%(stage)s"), {"job": job, "state": state, "stage": stage})
            channel.basic_publish(EVENTS, routing_key, event(job, sequence, state, stage, sent), persistent)


def setup(queue):
    """The table; and nothing is left in the queue of a run before."""
    import psycopg

    with psycopg.connect(DATABASE_URL, autocommit=True) as sql:
        sql.execute(TABLE)
    with pika.BlockingConnection(pika.URLParameters(AMQP_URL)) as connection:
        try:
            connection.channel().queue_purge(queue)
        except pika.exceptions.ChannelClosedByBroker:
            pass  # Not there yet.


async def ask(send, count, rate):
    """Sends `count` jobs: a hundred at once, or evenly at `rate` a second."""
    if rate is None:
        for begin in range(0, count, WINDOW):
            await asyncio.gather(*(send(*new_job()) for _ in range(min(WINDOW, count - begin))))
        return
    begun, tasks = time.monotonic(), []
    for number in range(count):
        await asyncio.sleep(max(0, begun + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(send(*new_job())))
    await asyncio.gather(*tasks)


def ask_blocking(send, count, rate):
    begun = time.monotonic()
    for number in range(count):
        if rate is not None:
            time.sleep(max(0, begun + number / rate - time.monotonic()))
        send(*new_job())


def arguments():
    """The verb, and for `enqueue` the count and the rate."""
    verb, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 0
    rate = float(rest[1]) if len(rest) > 1 else None
    return verb, count, rate


def become(*command):
    """Goes on as another program of the same environment, in this folder."""
    os.chdir(HERE)
    os.execv(os.path.join(os.path.dirname(sys.executable), command[0]), command)
