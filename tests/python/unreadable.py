"""A producer whose AMQP properties are Latin-1, which no strict client can read.

    unreadable.py AMQP_URL < MESSAGES

MESSAGES is a JSON list of objects: exchange, routing_key, properties (pika's), headers, body, and nested: how many levels
deep one more header is. Bodies are UTF-8.
"""

import json
import sys
import threading

import pika


class Latin(str):
    def encode(self, *_):
        return super().encode("latin-1")


def latin(texts):
    return {Latin(name): Latin(value) for name, value in texts.items()}


def headers(message):
    table = latin(message["headers"])
    nested = {}
    for _ in range(message["nested"]):
        nested = {"k": nested}
    return {**table, **nested}


def publish():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    for message in json.load(sys.stdin):
        texts = {name: Latin(value) for name, value in message["properties"].items()}
        properties = pika.BasicProperties(headers=headers(message), delivery_mode=2, **texts)
        key, body = Latin(message["routing_key"]), message["body"].encode()
        channel.basic_publish(message["exchange"], key, body, properties, mandatory=True)
    connection.close()


# Tables are written by recursion.
sys.setrecursionlimit(100_000)
threading.stack_size(512 * 1024 * 1024)
thread = threading.Thread(target=publish)
thread.start()
thread.join()
