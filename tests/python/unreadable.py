"""A producer whose message no strict client can read: its content type is bytes that are no UTF-8.

    unreadable.py AMQP_URL
"""

import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
properties = pika.BasicProperties(content_type=b"\xff\xfe", delivery_mode=2)
channel.basic_publish("slipway.requests", "slipway.project.ready.v1", b"{}", properties, mandatory=True)
connection.close()
