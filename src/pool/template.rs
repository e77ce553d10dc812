//! The command that a job becomes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command with places for the job (`{}`), its number (`{#}`) and the worker that runs it (`{%}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Words, as the program gets them.
    Words(Vec<Vec<Piece>>),
    /// A script; the job is its first parameter.
    Script(Vec<Piece>),
    /// Each job is a script.
    Jobs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Job,
    Number,
    Worker,
}

/// Why there is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither a command nor a shell.
    #[error("no command")]
    NoCommand,
    /// A place for the job within single quotes, where a shell takes everything literally.
    #[error("{{}} stands in single quotes, where a shell would not replace it: write it bare or in double quotes")]
    SingleQuotes,
    /// A job that no command line can hold.
    #[error("the job holds a NUL byte, which no argument of a command can (are the jobs separated by NUL? see -0)")]
    Nul,
}

impl Template {
    /// A command that is run as it is, without a shell. The job is appended when there is no place for anything.
    ///
    /// # Errors
    /// When there is no word.
    pub fn words(words: &[OsString]) -> Result<Self, Error> {
        if words.is_empty() {
            return Err(Error::NoCommand);
        }
        let mut words: Vec<_> = words.iter().map(|word| pieces(word.as_bytes())).collect();
        if words.iter().flatten().all(|piece| matches!(piece, Piece::Text(_))) {
            words.push(vec![Piece::Job]);
        }
        Ok(Self(Form::Words(words)))
    }

    /// A script for `sh`: the words, joined with spaces. Without words, each job is a script.
    ///
    /// The job never becomes a part of the script: it is the script's first parameter, and `{}` becomes `"${1}"`, or
    /// `${1}` where it stands in double quotes already. So no job can inject anything, whatever it is made of.
    ///
    /// # Errors
    /// When a place for the job stands in single quotes.
    pub fn script(words: &[OsString]) -> Result<Self, Error> {
        if words.is_empty() {
            return Ok(Self(Form::Jobs));
        }
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let mut script = pieces(&words.join(&b' '));
        if script.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            script.push(Piece::Text(b" ".to_vec()));
            script.push(Piece::Job);
        }
        let mut quotes = Quotes::default();
        for piece in &mut script {
            match piece {
                Piece::Text(text) => quotes.read(text),
                Piece::Job => {
                    *piece = Piece::Text(match quotes.innermost() {
                        Some(Quote::Single) => return Err(Error::SingleQuotes),
                        Some(Quote::Double) => b"${1}".to_vec(),
                        Some(Quote::Parenthesis | Quote::Backtick) | None => b"\"${1}\"".to_vec(),
                    });
                }
                Piece::Number | Piece::Worker => {}
            }
        }
        Ok(Self(Form::Script(script)))
    }

    /// The command of a job: a program and its arguments.
    ///
    /// # Errors
    /// When the job holds a NUL byte.
    pub fn command(&self, job: &[u8], number: u64, worker: usize) -> Result<Vec<OsString>, Error> {
        self.fill(job, number, worker.to_string().as_bytes())
    }

    /// What identifies the command of a job: the command, with `{%}` as it is, for the worker differs from run to run.
    ///
    /// # Errors
    /// When the job holds a NUL byte.
    pub fn identity(&self, job: &[u8], number: u64) -> Result<Vec<OsString>, Error> {
        self.fill(job, number, b"{%}")
    }

    fn fill(&self, job: &[u8], number: u64, worker: &[u8]) -> Result<Vec<OsString>, Error> {
        if job.contains(&0) {
            return Err(Error::Nul);
        }
        let number = number.to_string();
        let fill = |pieces: &[Piece]| {
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_slice(),
                Piece::Job => job,
                Piece::Number => number.as_bytes(),
                Piece::Worker => worker,
            });
            OsString::from_vec(pieces.collect::<Vec<_>>().concat())
        };
        let job = || OsString::from_vec(job.to_vec());
        Ok(match &self.0 {
            Form::Words(words) => words.iter().map(|word| fill(word)).collect(),
            Form::Script(script) => vec!["sh".into(), "-c".into(), fill(script), "sh".into(), job()],
            Form::Jobs => vec!["sh".into(), "-c".into(), job()],
        })
    }
}

/// Finds the places in one pass, so that what is put into one is never taken for another.
fn pieces(text: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let places = [(&b"{}"[..], Piece::Job), (b"{#}", Piece::Number), (b"{%}", Piece::Worker)];
        match places.into_iter().find(|(place, _)| rest.starts_with(place)) {
            Some((place, piece)) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(piece);
                rest = &rest[place.len()..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

/// Follows the quotes of a script, so far as it takes to know in which of them a place stands. A script too odd for it
/// splits a job into words at worst: a parameter is never read as code.
#[derive(Debug, Default)]
struct Quotes {
    open: Vec<Quote>,
    escaped: bool,
    comment: bool,
    /// The byte before, where a comment may begin after it.
    before: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Single,
    Double,
    Parenthesis,
    Backtick,
}

impl Quotes {
    fn innermost(&self) -> Option<Quote> {
        self.open.last().copied()
    }

    fn read(&mut self, text: &[u8]) {
        for byte in text {
            let before = self.before.replace(*byte);
            if self.comment {
                self.comment = *byte != b'\n';
            } else if self.escaped {
                self.escaped = false;
            } else {
                self.step(*byte, before);
            }
        }
    }

    fn step(&mut self, byte: u8, before: Option<u8>) {
        match (byte, self.innermost()) {
            (b'\'', Some(Quote::Single))
            | (b'"', Some(Quote::Double))
            | (b')', Some(Quote::Parenthesis))
            | (b'`', Some(Quote::Backtick)) => drop(self.open.pop()),
            (_, Some(Quote::Single)) => {}
            (b'\\', _) => self.escaped = true,
            (b'`', _) => self.open.push(Quote::Backtick),
            (b'(', Some(Quote::Double)) if before == Some(b'$') => self.open.push(Quote::Parenthesis),
            (_, Some(Quote::Double)) => {}
            (b'\'', _) => self.open.push(Quote::Single),
            (b'"', _) => self.open.push(Quote::Double),
            (b'(', _) => self.open.push(Quote::Parenthesis),
            (b'#', _) => self.comment = before.is_none_or(|before| b" \t\n;&|(".contains(&before)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn filled(words: &[&str], job: &str) -> Vec<OsString> {
        Template::words(&os(words)).unwrap().command(job.as_bytes(), 7, 2).unwrap()
    }

    #[test]
    fn places_are_filled_in_every_word_and_the_job_is_appended_when_there_is_none() {
        assert_eq!(filled(&["cp", "{}", "{}.bak"], "a b"), os(&["cp", "a b", "a b.bak"]));
        assert_eq!(filled(&["gzip", "-9"], "a b"), os(&["gzip", "-9", "a b"]));
        assert_eq!(filled(&["echo", "{#}/{%}"], "x"), os(&["echo", "7/2"]));
        assert_eq!(filled(&["{}"], "true"), os(&["true"]));
        assert_eq!(filled(&["echo", "{", "{{}}", ""], "x"), os(&["echo", "{", "{x}", ""]));
    }

    #[test]
    fn what_is_put_into_a_place_is_no_place() {
        assert_eq!(filled(&["echo", "{}"], "{#}{}{%}"), os(&["echo", "{#}{}{%}"]));
    }

    #[test]
    fn a_job_with_a_nul_byte_and_an_empty_command_are_refused() {
        assert_eq!(Template::words(&[]), Err(Error::NoCommand));
        let echo = Template::words(&os(&["echo"])).unwrap();
        assert_eq!(echo.command(b"a\0b", 1, 1), Err(Error::Nul));
    }

    #[test]
    fn the_worker_is_no_part_of_what_identifies_a_command() {
        let template = Template::words(&os(&["echo", "{%}", "{#}", "{}"])).unwrap();
        assert_eq!(template.identity(b"a", 3).unwrap(), os(&["echo", "{%}", "3", "a"]));
    }

    /// The script that `{}` in this one becomes.
    fn script(text: &str) -> Result<String, Error> {
        let command = Template::script(&os(&[text]))?.command(b"j", 7, 2)?;
        Ok(command[2].to_str().unwrap().to_owned())
    }

    #[test]
    fn in_a_script_the_job_is_a_parameter_quoted_as_its_place_needs() {
        for (text, becomes) in [
            ("gzip {}", r#"gzip "${1}""#),
            ("gzip", r#"gzip "${1}""#),
            ("gzip < {} > {}.gz", r#"gzip < "${1}" > "${1}".gz"#),
            (r#"echo "<{}>" {#}"#, r#"echo "<${1}>" 7"#),
            (r#"cd "$(dirname "{}")" && ls"#, r#"cd "$(dirname "${1}")" && ls"#),
            (r#"echo "$(wc {})" {}"#, r#"echo "$(wc "${1}")" "${1}""#),
            (r#"echo "`wc {}`""#, r#"echo "`wc "${1}"`""#),
            (r#"echo it\'s {}"#, r#"echo it\'s "${1}""#),
            ("echo 'a b' {}", r#"echo 'a b' "${1}""#),
            ("# it's {}\necho {}", "# it's \"${1}\"\necho \"${1}\""),
            ("echo a#'b' {}", r#"echo a#'b' "${1}""#),
        ] {
            assert_eq!(script(text).as_deref(), Ok(becomes), "{text}");
        }
        assert_eq!(script("echo '{}'"), Err(Error::SingleQuotes));
        assert_eq!(script("echo \"it's $(echo '{}')\""), Err(Error::SingleQuotes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn sh_gets_every_job_as_it_is(job in prop::collection::vec(1_u8..=255, 0..20)) {
            for text in ["printf '%s' {}", r#"printf '%s' "{}""#, r#"printf %s "$(printf %s "{}"; echo .)""#] {
                let command = Template::script(&os(&[text])).unwrap().command(&job, 1, 1).unwrap();
                let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
                let mut got = output.stdout;
                if text.contains("echo .") {
                    prop_assert_eq!(got.pop(), Some(b'.'));
                }
                prop_assert_eq!(&got, &job);
            }
        }
    }
}
