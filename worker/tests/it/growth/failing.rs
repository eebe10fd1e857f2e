//! What the database fails at, while there is a history.

use slipway_worker::store::{DeploymentEnd, PublishOutcome, StoreError};

use super::requests::{LONG, Requests};
use super::wrap::{ok, quick};
use crate::services::TestDatabase;

impl Requests<'_> {
    pub async fn is_held(&self, database: &TestDatabase) {
        let store = self.store;
        let id = self.accept(|_| {}).await;
        let poison = format!(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER poison BEFORE UPDATE ON deployments FOR EACH ROW WHEN (NEW.id = '{id}') EXECUTE FUNCTION poison()"
        );
        database.sql.batch_execute(&poison).await.unwrap();
        while let Ok(claim) = store.claim(LONG).await {
            self.end(&claim.expect("it's due"), &DeploymentEnd::Succeeded { url: None }).await;
        }
        let due =
            "DROP TRIGGER poison ON deployments; UPDATE held_deployments SET next_try_at = now(), tried_at = NULL";
        database.sql.batch_execute(due).await.unwrap();
        let mut claimed = Vec::new();
        for _ in 0..2 {
            let Some(claim) = ok(quick("claiming what is held", store.claim(LONG)).await) else { continue };
            self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
            claimed.push(claim.lease.deployment);
        }
        assert!(claimed.contains(&id), "it has had its turn");
        let error = StoreError::TimedOut(LONG);
        ok(store.hold_marks(&[PublishOutcome { position: 1, routed: true }], Some(id), &error, false).await);
        ok(store.failing_writes(10).await);
        database.sql.batch_execute("UPDATE held_marks SET next_try_at = now()").await.unwrap();
        ok(quick("marking what is held", store.mark_held()).await);
        ok(store.until_next_mark().await);
        ok(store.give_up_held().await);
        ok(quick("forgetting what was held", store.forget_held()).await);
    }
}
