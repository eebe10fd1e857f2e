"""Celery on RabbitMQ, with threads: setup, enqueue COUNT [RATE], work."""

from celery import Celery
from celery.signals import worker_init

import job

QUEUE = "peer.celery"

app = Celery("celery_peer", broker=job.AMQP_URL.replace("/%2f", "//"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_default_delivery_mode=2,
    task_default_queue=QUEUE,
    task_default_queue_type="quorum",
    task_ignore_result=True,
    worker_detect_quorum_queues=True,
)
jobs = None


@worker_init.connect
def begin(**_):
    global jobs
    jobs = job.ThreadJobs()


@app.task(name="run")
def run(name, sent):
    jobs.run(name, sent)


if __name__ == "__main__":
    verb, count, rate = job.arguments()
    if verb == "setup":
        job.setup(QUEUE)
    elif verb == "enqueue":
        with app.producer_pool.acquire(block=True) as producer:
            job.ask_blocking(lambda *about: run.apply_async(about, producer=producer), count, rate)
    else:
        job.become("celery", "-A", "celery_peer", "worker", "--pool", "threads", "--concurrency", str(job.CONCURRENCY),
                   "--without-gossip", "--without-mingle", "--loglevel", "WARNING")
