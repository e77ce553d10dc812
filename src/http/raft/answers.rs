//! What the machine answers, as HTTP answers it.

use hyper::StatusCode;

use crate::http::reply::Refusal;
use crate::kv::raft_kv::Answer;
use crate::raft;

/// Why what was asked is not done.
pub(super) type NotDone = Answer;

/// What became of what was asked.
pub(super) type Answered = Result<Answer, NotDone>;

/// Tells what is done from what is not.
pub(super) fn result(answer: Answer) -> Answered {
    match answer {
        Answer::NoLeader
        | Answer::TooLate
        | Answer::Overloaded
        | Answer::ViewClosed
        | Answer::OutcomeUnknown
        | Answer::Refused(_) => Err(answer),
        Answer::Done
        | Answer::Written(_)
        | Answer::Value(_)
        | Answer::Page(_)
        | Answer::Version(_)
        | Answer::View { .. }
        | Answer::Chunk(_) => Ok(answer),
    }
}

impl From<NotDone> for Refusal {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::NoLeader => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no leader").retry_after(1),
            NotDone::TooLate => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no majority answered in time").retry_after(1)
            }
            NotDone::Overloaded => Self::overloaded(),
            NotDone::ViewClosed => Self::new(StatusCode::GONE, "the view was not read in time and has been closed"),
            NotDone::OutcomeUnknown => Self::outcome_unknown(),
            NotDone::Refused(why) => refused(why),
            done => unlike(&done),
        }
    }
}

/// Why members or leader stay what they are.
fn refused(why: raft::Refusal) -> Refusal {
    use raft::Refusal as Why;
    let refused = |status| Refusal::new(status, &why.to_string());
    match why {
        Why::NotLeader => refused(StatusCode::SERVICE_UNAVAILABLE).retry_after(1),
        Why::NotReady | Why::ChangePending => refused(StatusCode::CONFLICT).retry_after(1),
        Why::AlreadyAMember | Why::LastVoter | Why::CannotLead => refused(StatusCode::CONFLICT),
        Why::NotAMember => refused(StatusCode::NOT_FOUND),
        Why::NotTakenOver => refused(StatusCode::GATEWAY_TIMEOUT),
    }
}

/// An answer to something else than what was asked.
pub(super) fn unlike(answer: &Answer) -> ! {
    unreachable!("each kind of request has its kind of answer, and not {answer:?}")
}
