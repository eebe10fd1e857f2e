//! E-mail over SMTP. The message's id is the same at each try, by which mailboxes recognise what comes again.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailboxes, MessageBuilder, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransport, Error};
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;
use slipway_worker::store::NOTIFICATION_TIMEOUT;

use super::delivery::{MessageDelivery, SendFailure};
use crate::notify::routing::settings::{EmailAddress, MailTls};
use crate::terminal::error::join_sources;

/// Sends a mail to all of a channel's addresses at once.
///
/// # Errors
/// Why it isn't known to have arrived.
pub(super) async fn send(
    address: &EmailAddress,
    authority: Option<&[u8]>,
    delivery: &MessageDelivery<'_>,
) -> Result<(), SendFailure> {
    let unfit = |what: &str, error: &dyn std::error::Error| {
        SendFailure::message(format!("no mail can be made: {what}: {error}"))
    };
    let domain = address.from.email.domain();
    let to: Mailboxes = address.to.iter().cloned().collect();
    let body = delivery.text.lines.join("\n");
    let mail = builder(address, &delivery.text.title)
        .mailbox(header::To::from(to))
        .message_id(Some(format!("<{}.slipway@{domain}>", delivery.id)))
        .header(ContentType::TEXT_PLAIN)
        .body(if body.is_empty() { delivery.text.title.clone() } else { body })
        .map_err(|error| unfit("its parts", &error))?;
    let transport =
        transport(address, authority).map_err(|error| SendFailure::channel(format!("no connection: {error}")))?;
    transport.send(mail).await.map(drop).map_err(|error| judge(&error))
}

fn builder(address: &EmailAddress, title: &str) -> MessageBuilder {
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    Message::builder()
        .from(address.from.clone())
        .subject(title)
        .date_now()
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
}

fn transport(address: &EmailAddress, authority: Option<&[u8]>) -> Result<AsyncSmtpTransport<Tokio1Executor>, Error> {
    let parameters = || {
        let builder = TlsParameters::builder(address.server.clone());
        match authority {
            Some(pem) => builder.add_root_certificate(Certificate::from_pem(pem)?).build(),
            None => builder.build(),
        }
    };
    let tls = match address.tls {
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Implicit => Tls::Wrapper(parameters()?),
        MailTls::None => Tls::None,
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&address.server)
        .port(address.port)
        .tls(tls)
        .timeout(Some(NOTIFICATION_TIMEOUT));
    if let Some((name, password)) = &address.login {
        transport = transport.credentials(Credentials::new(name.clone(), password.expose_secret().to_owned()));
    }
    Ok(transport.build())
}

/// What a refusal is about: the login, the server, or this mail alone.
fn judge(error: &Error) -> SendFailure {
    let problem = join_sources(error);
    let Some(code) = error.status().map(u16::from) else {
        // Without an answer it isn't known how far the mail has come.
        return SendFailure::Channel { problem: format!("no answer: {problem}"), maybe_told: error.is_timeout() };
    };
    match code {
        421 => SendFailure::channel(format!("the mail server is busy ({problem})")),
        454 | 530 | 534 | 535 | 538 => SendFailure::channel(format!("the mail server refuses the login ({problem})")),
        _ => SendFailure::message(format!("the mail server refused the mail ({problem})")),
    }
}
