//! Messages that were delivered together are taken in together, as far as each comes to nothing but a new deployment: one
//! transaction instead of as many. Any other goes its own way afterwards, and so does every later one of its project,
//! its slug or its repository.

use std::collections::BTreeSet;

use slipway_protocol::{Message, Request};

use super::admission::{Admitter, log_admission};
use super::arrived::Arrived;
use super::door::Door;
use crate::store::{Admission, PlainRequest, StoreError};
use crate::telemetry;

impl Admitter {
    /// Accepts what is plain of the messages; gives for each whether it's done. Nothing is refused here.
    pub(super) async fn admit_plain(&self, arrived: &[Arrived]) -> Result<Vec<bool>, StoreError> {
        let mut done = vec![false; arrived.len()];
        let (mut places, mut doors, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for (place, message, request) in self.candidates(arrived) {
            let door = Door::of_new(&self.store, &self.credentials, &message.message.1);
            let is_fine =
                door.check_content(request).is_ok_and(|opened| opened.is_ok_and(|unbound| unbound.is_empty()));
            if is_fine {
                let traceparent = message.span.in_scope(telemetry::current_traceparent);
                let traceparent = traceparent.or_else(|| request.event.traceparent.clone());
                places.push(place);
                doors.push(door);
                plain.push(PlainRequest { request, incoming: &message.message.1, traceparent });
            }
        }
        if plain.is_empty() {
            return Ok(done);
        }
        let accepted = self
            .store
            .accept_plain(&plain, |at, facts, rules| doors[at].check_facts(plain[at].request, facts, rules).is_ok())
            .await?;
        for ((place, plain), _) in places.into_iter().zip(&plain).zip(accepted).filter(|(_, accepted)| *accepted) {
            done[place] = true;
            let slug = plain.request.event.data.project.slug.as_str();
            arrived[place].span.in_scope(|| log_admission(&Admission::New, plain.request, "deploy", slug));
        }
        Ok(done)
    }

    /// Requests to deploy, of each project, slug and repository the first that comes to it.
    fn candidates<'m>(&self, arrived: &'m [Arrived]) -> Vec<(usize, &'m Arrived, &'m Request)> {
        let (mut projects, mut slugs, mut repositories) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut candidates = Vec::new();
        for (place, message) in arrived.iter().enumerate() {
            match &message.message.0 {
                Ok(Message::Ready(request)) => {
                    let data = &request.event.data;
                    let server = data.server.as_ref().map(|server| &server.handle);
                    let firsts = [
                        projects.insert(data.project.id),
                        slugs.insert((server, &data.project.slug)),
                        repositories.insert(data.repository.name.as_str().to_lowercase()),
                    ];
                    if firsts == [true; 3] && server.is_some() && request.replay.is_none() && !message.is_failing {
                        candidates.push((place, message, request.as_ref()));
                    }
                }
                Ok(Message::Half(half)) => drop(projects.insert(half.event.data.project().id)),
                Ok(Message::Command(request)) => drop(projects.insert(request.event.data.project.id)),
                Ok(Message::Cancel(_) | Message::Cordon(_)) | Err(_) => {}
            }
        }
        candidates
    }
}
