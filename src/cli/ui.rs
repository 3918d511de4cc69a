//! Where a command's words go: the result to standard output, the rest to standard error.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use anstream::AutoStream;
use anstream::ColorChoice;

use super::Format;
use super::LogFormat;
use super::Shared;
use crate::error::Error;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::words::visible;

/// How results, notes and errors are to be written.
pub(super) struct Ui {
    pub(super) format: Format,
    pub(super) log_format: LogFormat,
    to: To,
}

/// Where the words go.
enum To {
    /// The streams of the process, with colours or without.
    Streams(ColorChoice),
    /// Memory: result and notes, one after the other.
    #[cfg(test)]
    Memory(std::sync::Mutex<(String, String)>),
}

impl Ui {
    pub(super) fn new(shared: &Shared) -> Self {
        let colours = if shared.no_color { ColorChoice::Never } else { ColorChoice::Auto };
        log_to_stderr(shared);
        Self { format: shared.format, log_format: shared.log_format, to: To::Streams(colours) }
    }

    #[cfg(test)]
    pub(super) fn in_memory(format: Format) -> Self {
        Self { format, log_format: LogFormat::Text, to: To::Memory(std::sync::Mutex::default()) }
    }

    /// Returns the result and the notes, without their colours.
    #[cfg(test)]
    pub(super) fn written(self) -> (String, String) {
        match self.to {
            To::Memory(written) => written.into_inner().expect("no test panics while it writes"),
            To::Streams(_) => panic!("this writes to the streams of the process"),
        }
    }

    /// Writes the result of the command.
    pub(super) fn result(&self, text: &str) -> Result<(), Error> {
        match &self.to {
            To::Streams(colours) => write_result(text, *colours),
            #[cfg(test)]
            To::Memory(written) => {
                let text = anstream::adapter::strip_str(text).to_string();
                written.lock().expect("no test panics while it writes").0.push_str(&text);
                Ok(())
            }
        }
    }

    /// Writes something that is not the result; if that can't be done, nobody is there to be told.
    pub(super) fn note(&self, text: &str) {
        match &self.to {
            To::Streams(colours) => {
                let _ = AutoStream::new(io::stderr(), *colours).write_all(text.as_bytes());
            }
            #[cfg(test)]
            To::Memory(written) => {
                let text = anstream::adapter::strip_str(text).to_string();
                written.lock().expect("no test panics while it writes").1.push_str(&text);
            }
        }
    }

    /// Tells of something that is not as it should be and stops nothing.
    pub(super) fn warn(&self, text: &str) {
        self.note(&match self.log_format {
            LogFormat::Text => format!("warning: {}\n", visible(text)),
            LogFormat::Json => format!("{}\n", serde_json::json!({ "event": "warning", "message": text })),
        });
    }

    /// Tells why the command ends early: to programs as its result, to people on standard error.
    pub(super) fn error(&self, error: &Error) {
        match self.format {
            Format::Text => self.note(&error.text(self.is_watched())),
            Format::Markdown => {
                self.note(&error.text(self.is_watched()));
                let _ = self.result(&markdown::failed(&error.text(false)));
            }
            Format::Html => {
                self.note(&error.text(self.is_watched()));
                let _ = self.result(&html::failed(&error.text(false)));
            }
            Format::Json => {
                // A reader that has gone away knows the exit code.
                let _ = self.result(&json::errors(&error.reports()));
            }
        }
    }

    /// Whether somebody watches standard error.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.to, To::Streams(_)) && io::stderr().is_terminal()
    }

    /// Empties the terminal that the text goes to, so that a new look takes the place of the one before. Returns
    /// whether it is one.
    pub(super) fn clear_screen(&self) -> Result<bool, Error> {
        let is_terminal = matches!(self.to, To::Streams(_)) && io::stdout().is_terminal();
        if is_terminal && self.format == Format::Text {
            // No colour, so it is sent whatever NO_COLOR says.
            write_result("\x1b[H\x1b[2J\x1b[3J", ColorChoice::AlwaysAnsi)?;
        }
        Ok(is_terminal)
    }

    /// The columns of the terminal that the result goes to.
    pub(super) fn width(&self) -> Option<usize> {
        let is_terminal = matches!(self.to, To::Streams(_)) && io::stdout().is_terminal();
        let size = is_terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
        size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Whether a question can be put and answered.
    pub(super) fn can_ask(&self) -> bool {
        self.is_watched() && io::stdin().is_terminal()
    }
}

/// Writes to standard output. A reader that has had enough (`| head`) is no failure.
pub(super) fn write_result(text: &str, colours: ColorChoice) -> Result<(), Error> {
    let mut stdout = AutoStream::new(io::stdout().lock(), colours);
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn log_to_stderr(shared: &Shared) {
    let level = match shared.verbose {
        0 => return,
        1 => "pgpair=debug",
        _ => "pgpair=trace,tokio_postgres=debug",
    };
    let log = tracing_subscriber::fmt().with_env_filter(level).with_writer(io::stderr);
    let done = match shared.log_format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.with_ansi(!shared.no_color && io::stderr().is_terminal()).try_init(),
    };
    // Fails only where a log was set up already, which is then the one that counts.
    let _ = done;
}
