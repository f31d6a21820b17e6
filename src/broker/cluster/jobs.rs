//! Messages that must have effect once, whoever publishes them: wills, and QoS 2 messages of sessions that are kept.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Cluster;
use crate::broker::core::{Core, Origin, RouteScratch};
use crate::message::{NewMessage, Publication};
use crate::router::LastMatch;
use crate::session::WillMessage;
use crate::store::cluster::{ClusterOp, Job, Once, bucket_of_client};
use crate::store::read_client;

impl Cluster {
    /// The identity of a QoS 2 message of this client.
    pub(crate) fn begin_job(&self, client_id: &str) -> Once {
        Once {
            mid: self.new_mid(),
            of: self.incarnation,
            bucket: bucket_of_client(client_id),
        }
    }
}

impl Core {
    /// Publishes a QoS 2 message of a session that is kept, whose PUBREL has come. The same step has to write that it begins.
    pub(crate) fn publish_once(
        &self,
        cluster: &Arc<Cluster>,
        publication: &Publication<'_>,
        origin: &Origin<'_>,
        once: Once,
        scratch: &mut RouteScratch,
    ) {
        let last = &mut LastMatch::default();
        self.route_in_cluster(cluster, publication, Some(origin), scratch, last, Some(once));
    }

    /// Does what another node has begun, or what nobody has begun yet, until that is finished.
    pub(super) async fn do_jobs(self: &Arc<Core>, cluster: &Arc<Cluster>, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let (done, mut all_done) = mpsc::channel::<()>(1);
        for job in jobs {
            self.do_job(cluster, job, done.clone());
        }
        drop(done);
        // Nobody sends anything: the channel closes when the last one is published.
        let _ = all_done.recv().await;
        // All of them are in batches up to this one; and with the next one, their jobs are finished.
        cluster.keep_all().await;
        cluster.keep_all().await;
    }

    /// `done` is dropped when it is published: a hook may have to be asked before.
    fn do_job(self: &Arc<Core>, cluster: &Arc<Cluster>, job: Job, done: impl Send + 'static) {
        let Job {
            mid,
            of,
            bucket,
            will,
            origin,
            message,
            choices: _,
        } = job;
        let once = Once { mid, of, bucket };
        if let Some(stored) = will {
            match read_client(&stored.client) {
                Ok(client) => {
                    let will = WillMessage {
                        message: NewMessage::of_will(&stored.message, stored.expires_in),
                        delay_interval: stored.delay_interval,
                        client: Arc::new(client),
                    };
                    // No Local is about the session of the client, if it has one still.
                    let key = cluster.mirror.session_of(&will.client.client_id).unwrap_or(origin);
                    self.publish_will_once(Box::new(will), key, Some(once), done);
                }
                Err(error) => {
                    tracing::error!(
                        error = error.0,
                        "a will in the cluster can't be read: it is not published"
                    );
                    // Its client would wait for it.
                    drop(cluster.write([ClusterOp::Finish { bucket, mid }]));
                }
            }
        }
        if let Some(message) = message {
            let origin = Origin {
                key: origin,
                client: None,
            };
            self.publish_once(
                cluster,
                &message.as_publication(),
                &origin,
                once,
                &mut RouteScratch::default(),
            );
        }
    }
}
