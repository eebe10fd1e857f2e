//! Writes of many that go to the database together: what comes while one group is under way is in the next one, and where
//! many are at work a group waits a moment for company. So a lone write waits for nobody, and under load one commit
//! carries all that came meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::store::connection::listen::MANY;

/// The most writes of a group: its locks are held until all are written.
const MOST: usize = 64;
/// While one group is under way a second one may be, once so many wait: PostgreSQL has more than one processor.
const SECOND: usize = 16;
/// How long a group waits for company: a statement of one costs PostgreSQL half of what one of ten does.
const COMPANY_TIME: Duration = Duration::from_millis(3);

/// Writes of one kind, on their way in groups.
pub(in crate::store) struct GroupedWrites<W, A> {
    queue: Mutex<WriteQueue<W, A>>,
    came: Notify,
}

struct WriteQueue<W, A> {
    waiting: Vec<(W, oneshot::Sender<A>)>,
    under_way: usize,
}

impl<W, A> Default for GroupedWrites<W, A> {
    fn default() -> Self {
        Self { queue: Mutex::new(WriteQueue { waiting: Vec::new(), under_way: 0 }), came: Notify::new() }
    }
}

impl<W: Send + 'static, A: Send + 'static> GroupedWrites<W, A> {
    /// Has `write` written by `together` with whatever else is waiting, of the `writers` who are at work; the answers come in
    /// the order of the writes.
    /// `None` for a write that has to go alone: since its group failed, or since `together` left it out.
    pub(in crate::store) async fn write<T, F>(self: &Arc<Self>, write: W, writers: usize, together: T) -> Option<A>
    where
        T: Fn(Vec<W>) -> F + Send + 'static,
        F: Future<Output = Vec<Option<A>>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        let leads = {
            let mut queue = self.lock();
            queue.waiting.push((write, answer));
            let leads = queue.under_way == 0 || (queue.under_way == 1 && queue.waiting.len() >= SECOND);
            queue.under_way += usize::from(leads);
            leads
        };
        self.came.notify_one();
        if leads {
            // On its own, since whoever waits for the first answer may give up, and the others wait still.
            let mut lead = Lead { grouped: self.clone(), has_ended: false };
            tokio::spawn(async move {
                loop {
                    lead.company(writers).await;
                    let Some((writes, waiting)) = lead.next() else { break };
                    for (answer, waiting) in together(writes).await.into_iter().zip(waiting) {
                        answer.map(|answer| waiting.send(answer));
                    }
                }
            });
        }
        answered.await.ok()
    }
}

impl<W, A> GroupedWrites<W, A> {
    fn lock(&self) -> MutexGuard<'_, WriteQueue<W, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who sends groups, one after the other. When that ends before its time, whoever waits goes alone.
struct Lead<W, A> {
    grouped: Arc<GroupedWrites<W, A>>,
    has_ended: bool,
}

impl<W, A> Lead<W, A> {
    /// Waits a moment for half of those who are at work, unless nothing waits at all.
    async fn company(&self, writers: usize) {
        if writers < MANY {
            return;
        }
        let is_enough = || {
            let waiting = self.grouped.lock().waiting.len();
            waiting == 0 || waiting >= (writers / 2).min(MOST)
        };
        let come = async {
            while !is_enough() {
                self.grouped.came.notified().await;
            }
        };
        let _ = tokio::time::timeout(COMPANY_TIME, come).await;
    }

    /// The next group; `None`, and it has ended, when nothing waits.
    fn next(&mut self) -> Option<(Vec<W>, Vec<oneshot::Sender<A>>)> {
        let mut queue = self.grouped.lock();
        let most = queue.waiting.len().min(MOST);
        self.has_ended = most == 0;
        queue.under_way -= usize::from(self.has_ended);
        (most > 0).then(|| queue.waiting.drain(..most).unzip())
    }
}

impl<W, A> Drop for Lead<W, A> {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut queue = self.grouped.lock();
            queue.under_way -= 1;
            queue.waiting.clear();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    type Numbers = Arc<GroupedWrites<u32, (u32, usize)>>;

    /// Answers even numbers with themselves and the size of their group, once `may_go` is there.
    async fn write(grouped: Numbers, number: u32, may_go: Arc<tokio::sync::Semaphore>) -> Option<(u32, usize)> {
        let together = move |numbers: Vec<u32>| {
            let may_go = may_go.clone();
            async move {
                may_go.acquire().await.unwrap().forget();
                let size = numbers.len();
                assert!(!numbers.contains(&13), "unlucky");
                numbers.into_iter().map(|n| (n % 2 == 0).then_some((n, size))).collect()
            }
        };
        grouped.write(number, 1, together).await
    }

    async fn waiting(grouped: &Numbers, count: usize) {
        while grouped.lock().waiting.len() < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_group_is_under_way_goes_together_and_one_left_out_goes_alone() {
        let (grouped, may_go) = (Numbers::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let first = tokio::spawn(write(grouped.clone(), 2, may_go.clone()));
        while grouped.lock().under_way == 0 || !grouped.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (3..=6).map(|n| tokio::spawn(write(grouped.clone(), n, may_go.clone()))).collect();
        waiting(&grouped, 4).await;
        first.abort();
        may_go.add_permits(2);
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.unwrap());
        }
        assert_eq!(answers, [None, Some((4, 4)), None, Some((6, 4))]);
        may_go.add_permits(1);
        assert_eq!(write(grouped, 8, may_go).await, Some((8, 1)), "the next one leads again");
    }

    #[tokio::test]
    async fn no_group_is_larger_than_its_limit() {
        let (grouped, may_go) = (Numbers::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let most = u32::try_from(MOST).unwrap();
        let all: Vec<_> = (0..3 * most).map(|n| tokio::spawn(write(grouped.clone(), 2 * n, may_go.clone()))).collect();
        waiting(&grouped, 2 * MOST).await;
        may_go.add_permits(10);
        for one in all {
            assert!(one.await.unwrap().is_some_and(|(_, size)| size <= MOST));
        }
    }

    #[tokio::test]
    async fn a_group_waits_a_moment_for_half_of_those_who_are_at_work() {
        let grouped = Numbers::default();
        let write = |number| {
            let grouped = grouped.clone();
            let together =
                |numbers: Vec<u32>| async move { numbers.iter().map(|n| Some((*n, numbers.len()))).collect() };
            tokio::spawn(async move { grouped.write(number, MANY, together).await })
        };
        // Both have come before the first one's group begins: there is one thread.
        let (first, second) = (write(1), write(2));
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Some((1, 2)), Some((2, 2))));
        let alone = std::time::Instant::now();
        assert_eq!(write(3).await.unwrap(), Some((3, 1)));
        assert!(alone.elapsed() >= COMPANY_TIME, "one of four has waited for another");
    }

    #[tokio::test]
    async fn a_group_that_breaks_off_leaves_nobody_waiting() {
        let (grouped, may_go) = (Numbers::default(), Arc::new(tokio::sync::Semaphore::new(9)));
        assert_eq!(write(grouped.clone(), 13, may_go.clone()).await, None);
        assert_eq!(write(grouped, 14, may_go).await, Some((14, 1)));
    }
}
