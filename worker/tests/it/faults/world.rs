//! The broker, and what can be done to it and to everything else.

use std::sync::Arc;

use futures_util::future::join_all;
use lapin::options::QueueDeleteOptions;
use slipway_protocol::topology;

use super::fault::Fault::{self, *};
use super::scene::{FaultScene, UnderWay, postgres};
use crate::services::{Postgres, Rabbit};

/// The broker, and what can be done to it and to everything else.
#[derive(Clone)]
pub(super) struct FaultWorld {
    pub(super) rabbit: Arc<tokio::sync::Mutex<Rabbit>>,
}

impl FaultWorld {
    pub(super) async fn rabbit(&self, act: impl FnOnce(&mut Rabbit) + Send + 'static) {
        let mut rabbit = self.rabbit.clone().lock_owned().await;
        tokio::task::spawn_blocking(move || act(&mut rabbit)).await.unwrap();
    }

    pub(super) async fn control(&self, arguments: &'static [&'static str]) {
        self.rabbit(|rabbit| rabbit.control(arguments)).await;
    }

    pub(super) async fn postgres(&self, act: impl FnOnce(&mut Postgres) + Send + 'static) {
        tokio::task::spawn_blocking(move || act(&mut postgres())).await.unwrap();
    }

    pub(super) async fn strike(&self, fault: Fault, scenes: &mut [FaultScene]) {
        match fault {
            QueueDeleted => {
                for scene in scenes {
                    let link = scene.ledger.connect().await;
                    let options = QueueDeleteOptions::default();
                    let channel = link.channel().await.unwrap();
                    channel.queue_delete(topology::DEPLOYMENTS_QUEUE.into(), options).await.unwrap();
                    link.close().await;
                }
            }
            ConnectionsClosed => self.control(&["close_all_connections", "--global", "by the operator"]).await,
            AckOverdue => join_all(scenes.iter_mut().map(overdue)).await.into_iter().collect(),
            BrokerTerminated => self.rabbit(Rabbit::terminate).await,
            BrokerKilled => self.rabbit(Rabbit::stop).await,
            BrokerFrozen => self.rabbit(Rabbit::freeze).await,
            ConnectionsForgotten => scenes.iter().for_each(|scene| scene.proxy.forget()),
            NetworkCut => scenes.iter().for_each(|scene| scene.proxy.cut()),
            MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.000001"]).await,
            DiskAlarm => self.control(&["set_disk_free_limit", "900000GB"]).await,
            LoginRefused => {
                self.control(&["change_password", "slipway", "another"]).await;
                self.control(&["close_all_connections", "--global", "new password"]).await;
            }
            DatabaseFrozen => self.postgres(Postgres::freeze).await,
            DatabaseRestarted => self.postgres(Postgres::stop).await,
        }
    }

    pub(super) async fn heal(&self, fault: Fault, scenes: &mut [FaultScene]) {
        match fault {
            BrokerTerminated | BrokerKilled => self.rabbit(Rabbit::restart).await,
            BrokerFrozen => self.rabbit(Rabbit::thaw).await,
            NetworkCut => scenes.iter().for_each(|scene| scene.proxy.mend()),
            MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.4"]).await,
            DiskAlarm => self.control(&["set_disk_free_limit", "50MB"]).await,
            LoginRefused => self.control(&["change_password", "slipway", "slipway"]).await,
            DatabaseFrozen => self.postgres(Postgres::thaw).await,
            DatabaseRestarted => {
                self.postgres(Postgres::restart).await;
                for scene in scenes {
                    scene.database.sql = scene.database.another().await;
                }
            }
            QueueDeleted | ConnectionsClosed | AckOverdue | ConnectionsForgotten => {}
        }
    }
}

/// Keeps a commit waiting until the broker has taken the consumer's channel away.
async fn overdue(scene: &mut FaultScene) {
    let mut sql = scene.database.another().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE deployments IN SHARE MODE").await.unwrap();
    if scene.under_way == UnderWay::TakingIn {
        // What came before may have been taken in already.
        scene.publish(1).await;
        scene.eventually("the broker closes the channel", async |scene| !scene.is_consumed().await).await;
    }
    lock.rollback().await.unwrap();
}
