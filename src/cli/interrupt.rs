//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends pgpair at once.

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

use crate::error::Error;
use crate::error::Exit;

/// Becomes true at the first signal.
pub(super) type Interrupt = watch::Receiver<bool>;

/// Begins to listen. From here on a signal no longer ends the process by itself.
pub(super) fn listen() -> Result<Interrupt, Error> {
    let on = |kind| signal(kind).map_err(|source| Error::System { what: "signal handlers", source });
    let (mut interrupts, mut terminations) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut interrupts, &mut terminations).await;
        sender.send_replace(true);
        either(&mut interrupts, &mut terminations).await;
        // Long children die with this process, and the kernel releases its locks.
        #[expect(
            clippy::exit,
            clippy::disallowed_methods,
            reason = "the second signal asks for the end at once, whatever is under way"
        )]
        std::process::exit(Exit::Interrupted.number().into());
    });
    Ok(receiver)
}

async fn either(interrupts: &mut Signal, terminations: &mut Signal) {
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
}

/// Runs what may be given up at any point: looking, waiting for an answer.
pub(super) async fn unless_interrupted<T>(interrupt: &Interrupt, work: impl Future<Output = T>) -> Result<T, Error> {
    let mut interrupt = interrupt.clone();
    tokio::select! {
        result = work => Ok(result),
        Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => Err(Error::Interrupted),
    }
}
