//! The page around a report, and the small things that all reports have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::DOCTYPE;
use maud::Markup;
use maud::PreEscaped;
use maud::html;
use sha2::Digest as _;
use sha2::Sha256;

use crate::plan::Impact;
use crate::report::words::visible;
use crate::topology::NodeName;

pub(super) const STYLE: &str = include_str!("style.css");

/// How good or bad something is, as a colour; what is coloured also says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Note,
    Warning,
    Bad,
    Quiet,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// Returns the whole document. Control characters and what turns the direction of writing are made visible here, for
/// all of it: the page has none of its own.
pub(super) fn page(kind: &str, subject: &str, body: &Markup) -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (subject) " – pgpair " (kind) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kind { "pgpair " (kind) }
                    h1 { (subject) }
                }
                main { (body) }
                footer { "pgpair " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    visible(&document.into_string())
}

/// A word or two that stand out.
pub(super) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span.badge.(tone.class()) { (text) } }
}

/// What people notice of a step; nothing where they don't.
pub(super) fn impact(impact: Impact) -> Markup {
    html! {
        @if impact != Impact::None { (badge(tone_of(impact), &impact.to_string())) }
    }
}

pub(super) fn tone_of(impact: Impact) -> Tone {
    match impact {
        Impact::None | Impact::Reload => Tone::Quiet,
        Impact::Restart => Tone::Warning,
        Impact::Outage | Impact::Switchover | Impact::Failover | Impact::Destroy => Tone::Bad,
    }
}

/// Names of nodes.
pub(super) fn names(nodes: &[NodeName]) -> Markup {
    html! {
        @for (index, node) in nodes.iter().enumerate() {
            @if index > 0 { ", " }
            code { (node.as_str()) }
        }
    }
}

/// A box that is read first: what is blocked, what is wrong.
pub(super) fn notice(tone: Tone, content: &Markup) -> Markup {
    html! { div.notice.(tone.class()) { (content) } }
}
