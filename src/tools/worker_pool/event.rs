//! A job as a line of JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::pool::capture::{Capture, Spilled};

use super::job::Finished;

/// A job as programs see it.
#[derive(Serialize)]
pub(super) struct JobEvent<'a> {
    event: &'static str,
    job: u64,
    worker: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_base64: Option<String>,
    status: &'static str,
    exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    attempts: u32,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    stdout_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    stderr_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_file: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    left_behind: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> JobEvent<'a> {
    /// The event of a job. Of output that is too long for a line it names the file, which is to be kept.
    pub(super) fn new(job: &'a Finished, printed: Option<&(Capture, Capture)>) -> Self {
        let (stdout, stderr) = printed.map_or((None, None), |(stdout, stderr)| (Some(stdout), Some(stderr)));
        let (stdout, stderr) = (Stream::new(stdout), Stream::new(stderr));
        let (input, input_base64) = text_or_base64(&job.input, false);
        Self {
            event: "job",
            job: job.number,
            worker: job.worker,
            input,
            input_base64,
            status: job.status.as_str(),
            exit: job.exit,
            signal: job.signal,
            attempts: job.attempts,
            ms: job.took.as_millis() as u64,
            stdout: stdout.text,
            stdout_base64: stdout.base64,
            stdout_truncated: stdout.truncated,
            stdout_bytes: stdout.bytes,
            stdout_file: stdout.file,
            stderr: stderr.text,
            stderr_base64: stderr.base64,
            stderr_truncated: stderr.truncated,
            stderr_bytes: stderr.bytes,
            stderr_file: stderr.file,
            left_behind: job.left_behind,
            error: job.trouble.as_ref().map(ToString::to_string),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// One stream of a job's output as programs see it.
#[derive(Default)]
struct Stream {
    text: Option<String>,
    base64: Option<String>,
    truncated: bool,
    bytes: Option<u64>,
    file: Option<String>,
}

impl Stream {
    fn new(capture: Option<&Capture>) -> Self {
        let Some(capture) = capture else { return Self { text: Some(String::new()), ..Self::default() } };
        let truncated = capture.file().is_some();
        let (text, base64) = text_or_base64(capture.head(), truncated);
        let (text, bytes) = (text.map(Cow::into_owned), truncated.then_some(capture.bytes()));
        let file = match capture.file() {
            Some(Spilled::Named(file)) => Some(file.path().display().to_string()),
            Some(Spilled::Unnamed(_)) | None => None,
        };
        Self { text, base64, truncated, bytes, file }
    }
}

/// Text as it is, anything else in base64. Where it was cut, a character may have been cut, too; it is left out.
fn text_or_base64(bytes: &[u8], cut: bool) -> (Option<Cow<'_, str>>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(error) if cut && error.error_len().is_none() => {
            (Some(String::from_utf8_lossy(&bytes[..error.valid_up_to()])), None)
        }
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}
