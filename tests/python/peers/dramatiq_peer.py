"""Dramatiq on RabbitMQ: setup, enqueue COUNT [RATE], work."""

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

import job

QUEUE = "peer.dramatiq"


class QuorumBroker(RabbitmqBroker):
    def _build_queue_arguments(self, queue_name):
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=job.AMQP_URL, confirm_delivery=True)
dramatiq.set_broker(broker)


class Jobs(dramatiq.Middleware):
    def before_worker_boot(self, _broker, _worker):
        self.jobs = job.ThreadJobs()


jobs = Jobs()
broker.add_middleware(jobs)


@dramatiq.actor(queue_name=QUEUE)
def run(name, sent):
    jobs.jobs.run(name, sent)


if __name__ == "__main__":
    verb, count, rate = job.arguments()
    if verb == "setup":
        job.setup(QUEUE)
    elif verb == "enqueue":
        job.ask_blocking(run.send, count, rate)
    else:
        job.become("dramatiq", "dramatiq_peer", "--processes", "1", "--threads", str(job.CONCURRENCY))
