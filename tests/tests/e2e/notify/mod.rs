//! `slipway notify` as a process, between a real RabbitMQ, a real PostgreSQL, a real mail server and strict stand-ins of Telegram,
//! Slack and a receiver of webhooks; and `slipway events replay`.

mod checked;
mod grouping;
mod killed;
mod limits;
mod mail;
mod refusals;
mod replay;
mod scene;
mod texts;
