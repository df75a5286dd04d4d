//! Calls that outlive the restart of the service they are made to.

use crate::{Code, Scope};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// Longer than a restart, shorter than a caller's own patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls again while the other side is away, for at most five seconds and no longer than the scope's deadline. Only for
/// calls that may be made twice: an attempt that was not answered may still have had its effect.
pub async fn while_unavailable<T, F>(scope: &Scope, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let limit = (Instant::now() + PATIENCE).min(scope.deadline.instant());
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(status) if Code::is_away(&status) && Instant::now() + pause < limit => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deadline, Error};

    /// What `codes` answer in turn and then success; how many calls there were, and how long they took.
    async fn calls(codes: &[Code], deadline: Deadline) -> (Result<(), Code>, usize, Duration) {
        let scope = Scope { deadline, ..Scope::detached() };
        let (mut count, begun) = (0, Instant::now());
        let answer = while_unavailable(&scope, || {
            let code = codes.get(count).copied();
            count += 1;
            async move { code.map_or(Ok(()), |code| Err(Status::from(Error::new(code, "no")))) }
        });
        let answer = answer.await.map_err(|status| Code::of(&status));
        (answer, count, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_waited_out() {
        let (answer, count, took) = calls(&[Code::Unavailable; 3], Deadline::none()).await;
        assert_eq!((answer, count), (Ok(()), 4));
        assert_eq!(took, FIRST_PAUSE * (1 + 2 + 4));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_and_the_deadline_end_it() {
        for (deadline, longest) in [(None, PATIENCE), (Some(Duration::from_millis(200)), Duration::from_millis(200))] {
            let deadline = deadline.map_or_else(Deadline::none, Deadline::after);
            let (answer, count, took) = calls(&[Code::Unavailable; 100], deadline).await;
            assert_eq!(answer, Err(Code::Unavailable));
            assert!(count > 1 && took < longest, "{count} calls in {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_is_an_absence() {
        let mut lost = vec![Status::unknown("broken pipe"), Status::cancelled("closed"), Status::internal("h2 error")];
        let answer = while_unavailable(&Scope::detached(), || std::future::ready(lost.pop().map_or(Ok(()), Err))).await;
        assert!(answer.is_ok() && lost.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final() {
        for code in [Code::Invalid, Code::Overloaded, Code::Late, Code::Internal] {
            assert_eq!(calls(&[code], Deadline::none()).await, (Err(code), 1, Duration::ZERO));
        }
    }
}
