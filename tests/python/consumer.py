"""A bot that follows one project: binds a queue of its own, says so, prints each event as a line of JSON and ends after
the result.

    consumer.py AMQP_URL SLUG
"""

import json
import sys

import pika
import slipway_events as slipway

PATIENCE = 120
"""Seconds without any event after which it gives up."""


def line(event: slipway.ProgressEvent | slipway.ResultEvent, properties: pika.BasicProperties) -> dict:
    data = event.data
    told = {
        "sequence": event.sequence,
        "causationid": event.causationid,
        "deployment_id": str(data.deployment_id),
        "correlation": data.correlation,
        "message_id_is_event_id": properties.message_id == event.id,
        "correlation_id": properties.correlation_id,
    }
    if isinstance(event, slipway.ResultEvent):
        stages = [stage.stage for stage in data.stages]
        return told | {"result": data.outcome, "url": data.url, "stages": stages, "failure": str(data.failure)}
    return told | {"progress": data.kind, "stage": data.stage}


def main() -> None:
    url, slug = sys.argv[1:]
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for key in (f"progress.{slug}.#", f"result.{slug}.#"):
        channel.queue_bind(queue, slipway.EVENTS, key)
    print("bound", flush=True)
    for method, properties, body in channel.consume(queue, inactivity_timeout=PATIENCE):
        if method is None:
            sys.exit(f"no event for {PATIENCE} s")
        event = slipway.parse_event(body)
        print(json.dumps(line(event, properties)), flush=True)
        channel.basic_ack(method.delivery_tag)
        if isinstance(event, slipway.ResultEvent):
            return


if __name__ == "__main__":
    main()
