//! Policies of telling and noticing that somebody is there.

use std::time::Duration;

use slipway_deploy::bounds;

use super::setting::{PolicySetting, fixed};
use crate::amqp;
use crate::intake::consumer;
use crate::process::heartbeat;
use crate::publish::relay;

#[rustfmt::skip]
pub(super) fn policies() -> Vec<PolicySetting> {
    vec![
        fixed("signs of life, all workers", "process::heartbeat::TURN_INTERVAL", heartbeat::TURN_INTERVAL,
            "One worker after the other writes to the database that it lives, and learns what is due: more workers \
             don't ask more often; half a lease, where that is shorter"),
        fixed("patience with the database", "process::heartbeat::HEARTBEAT_TIMEOUT", heartbeat::HEARTBEAT_TIMEOUT,
            "After this without a commit a worker isn't ready"),
        fixed("heartbeat with RabbitMQ", "amqp::connection::HEARTBEAT",
            Duration::from_secs(amqp::connection::HEARTBEAT.into()),
            "A peer that misses two is gone, though TCP may not notice for hours"),
        fixed("heartbeat of other connections to it", "amqp::connection::UNHURRIED_HEARTBEAT",
            Duration::from_secs(amqp::connection::UNHURRIED_HEARTBEAT.into()),
            "Where events go out and dead letters come in: each beat wakes an idle worker, and when the connection that \
             requests come over ends, the broker is asked for a sign of life"),
        fixed("patience with a sign of life", "amqp::connection::SIGN_TIMEOUT", amqp::connection::SIGN_TIMEOUT,
            "A broker that is there opens a channel at once; one that doesn't within this is left"),
        fixed("keepalive over SSH", "remote::ssh::transport::KEEPALIVE", bounds::SSH_KEEPALIVE,
            "A server that misses three is gone"),
        fixed("canary", "publish::relay::CANARY", relay::CANARY,
            "A message to the worker itself shows that what is published arrives"),
        fixed("patience with the canary", "intake::consumer::CANARY_TIMEOUT", consumer::CANARY_TIMEOUT,
            "After this without one the worker isn't ready"),
    ]
}
