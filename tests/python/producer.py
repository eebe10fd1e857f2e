"""An orchestrator that asks for a deployment: reads the request as JSON from standard input, seals its secrets,
publishes one ProjectReady and prints the event's id, the deployment's id and the body.

    producer.py AMQP_URL < {"key": "ID:BASE64", "secrets": {NAME: VALUE}, "source": …, "ready": {…}}
"""

import json
import sys
import time

import pika
import slipway_events as slipway


def event_of(request: dict) -> slipway.ProjectReadyEvent:
    key_id, public_key = request["key"].split(":", 1)
    project = request["ready"]["project"]["id"]
    secrets = {
        name: slipway.seal(value, key_id, public_key, project=project, name=name)
        for name, value in request["secrets"].items()
    }
    ready = slipway.ProjectReady.model_validate({**request["ready"], "secrets": secrets})
    return slipway.project_ready_event(ready, source=request["source"])


def publish(url: str, event: slipway.ProjectReadyEvent) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    # Raises when the broker refuses it or no queue is bound for it.
    channel.basic_publish(
        exchange=slipway.REQUESTS,
        routing_key=event.type,
        body=event.body(),
        properties=pika.BasicProperties(
            content_type=slipway.CONTENT_TYPE,
            delivery_mode=pika.DeliveryMode.Persistent.value,
            message_id=event.id,
            type=event.type,
            correlation_id=event.data.correlation.get("correlation_id"),
            timestamp=int(time.time()),
            app_id="orchestrator",
        ),
        mandatory=True,
    )
    connection.close()


def main() -> None:
    event = event_of(json.load(sys.stdin))
    publish(sys.argv[1], event)
    told = {"id": event.id, "deployment_id": str(event.deployment_id), "body": event.body().decode()}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
