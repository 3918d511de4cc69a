//! The table that is printed: times and figures, each beside its budget, and whether all were held.

use std::process::ExitCode;
use std::time::Duration;

/// Several times of one thing.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    pub(crate) fn of(rounds: usize, work: impl FnMut() -> Duration) -> Self {
        Self::new(std::iter::repeat_with(work).take(rounds).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        ms(self.0[self.0.len() / 2])
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What was printed so far.
pub(crate) struct Table {
    is_held: bool,
}

impl Table {
    pub(crate) fn begin() -> Self {
        println!("{:<44} {:>9} {:>9} {:>9}   budget", "", "min ms", "median", "max");
        Self { is_held: true }
    }

    /// Times without a budget.
    pub(crate) fn times(&self, what: &str, times: &Times) {
        println!("{}", row(what, times));
    }

    /// Times whose median has a budget, in milliseconds.
    pub(crate) fn times_within(&mut self, what: &str, times: &Times, budget: f64) {
        self.budgeted(&row(what, times), times.median(), budget, "ms");
    }

    /// A figure that isn't a time.
    pub(crate) fn figure_within(&mut self, what: &str, figure: f64, budget: f64, unit: &str) {
        self.budgeted(&format!("{what:<44} {:>9} {figure:>9.1} {:>9}", "", ""), figure, budget, unit);
    }

    /// How pgpair's median compares with that of the plain script.
    pub(crate) fn ratio_within(&mut self, ours: &Times, plain: &Times, budget: f64) {
        let ratio = ours.median() / plain.median();
        let row = format!("{:<44} {:>9} {ratio:>9.2} {:>9}", "  ratio of the medians", "", "");
        self.budgeted(&row, ratio, budget, "x the script");
    }

    fn budgeted(&mut self, row: &str, figure: f64, budget: f64, unit: &str) {
        let is_held = figure <= budget;
        println!("{row}   {budget} {unit}{}", if is_held { "" } else { ": EXCEEDED" });
        self.is_held &= is_held;
    }

    /// Success where every budget was held.
    pub(crate) fn end(self) -> ExitCode {
        if self.is_held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn row(what: &str, times: &Times) -> String {
    let (least, most) = (ms(times.0[0]), ms(times.0[times.0.len() - 1]));
    format!("{what:<44} {least:>9.1} {:>9.1} {most:>9.1}", times.median())
}
