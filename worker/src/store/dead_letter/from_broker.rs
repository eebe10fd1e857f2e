//! Messages in the dead-letter exchange that no worker published there: one transaction makes each a dead letter like
//! any other, and ends its request unless that became a deployment after all.

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::dead_letter::refusal::BrokerDeadLetter;
use crate::store::deployment::refuse::end_refused;
use crate::store::{Result, Store};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredGivenUp {
    /// It's a dead letter; when its ids could be read, its request has failed, too.
    DeadLetter,
    /// Its deployment is here: only the acknowledgement was lost, and nothing is given up. Nothing was written.
    Settled,
    /// A worker published it and has its row. Nothing was written.
    Known,
}

impl Store {
    /// Stores a message that was given up; the same message twice is one dead letter and one result.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn ingest(&self, given_up: &BrokerDeadLetter) -> Result<StoredGivenUp> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let known = "SELECT 1 FROM dead_letters WHERE id = ANY($1) LIMIT 1";
            if tx.query_opt(known, &[&given_up.published_as]).await?.is_some() {
                return Ok(StoredGivenUp::Known);
            }
            if !end_refused(&tx, &given_up.refusal, given_up.incoming.user.as_deref()).await? {
                return Ok(StoredGivenUp::Settled);
            }
            NewDeadLetter::of_given_up(given_up).insert_unpublished(&tx, self).await?;
            commit(tx, TransactionKind::Ingest).await?;
            Ok(StoredGivenUp::DeadLetter)
        })
        .await
    }
}
