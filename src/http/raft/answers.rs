//! What the machine answers, as HTTP answers it.

use hyper::StatusCode;

use crate::http::reply::Refusal;
use crate::kv::raft_kv::{Answer, RequestError};
use crate::raft;

/// What became of what was asked.
pub(super) type Answered = Result<Answer, RequestError>;

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let refused_with = |code| Self::new(code, &error.to_string());
        match error {
            RequestError::NoLeader | RequestError::TooLate => {
                refused_with(StatusCode::SERVICE_UNAVAILABLE).retry_after(1)
            }
            RequestError::Overloaded => Self::overloaded(),
            RequestError::ViewClosed => refused_with(StatusCode::GONE),
            RequestError::OutcomeUnknown => Self::outcome_unknown(),
            RequestError::Refused(why) => refused(why),
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

/// What an answer holds.
pub(super) fn expected<T: TryFrom<Answer>>(answer: Answer) -> T {
    T::try_from(answer).ok().expect("each kind of request has its kind of answer")
}
