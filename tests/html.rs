//! HTML reports of a real pair: what is in them and what is not, and what a real browser makes of them.
//!
//! The browser is for `scripts/look-html`, which installs it.

mod support;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use support::Version;
use support::Workspace;
use support::roles::name_primary;

/// A phone.
const PHONE: u32 = 360;

/// Makes a pair and lets it live, with a report of every sort on the way.
fn reports(pair: &Workspace) -> Vec<(&'static str, String)> {
    let page = |arguments: &[&str]| pair.pgpair(&[arguments, &["--format", "html"]].concat()).stdout;
    pair.usual_topology();
    let new = page(&["plan"]);
    pair.apply().exits(0);
    pair.edit("  fsync: off\n", "  fsync: off\n  work_mem: 8MB\n  max_connections: 50\n");
    let change = page(&["plan"]);
    let log = pair.path("restart.jsonl").display().to_string();
    let applied = page(&["apply", "--auto-approve", "--allow", "restart,outage", "--event-log", &log]);
    let restart = page(&["show", &log]);
    name_primary(pair, "b");
    let roles = page(&["plan"]);
    let log = pair.path("switchover.jsonl").display().to_string();
    pair.pgpair(&["apply", "--auto-approve", "--allow", "switchover=b", "--event-log", &log]).exits(0);
    let switchover = page(&["show", &log]);
    let status = page(&["status"]);
    pair.set("a", "work_mem = 64MB");
    pair.sql("a", "select pg_reload_conf()");
    let drift = page(&["drift"]);
    let many = page(&["drift", "pgpair.yaml", "none.yaml"]);
    pair.pg_ctl("a", &["stop", "-m", "fast"]).exits(0);
    let down = page(&["status"]);
    vec![
        ("new", new),
        ("change", change),
        ("applied", applied),
        ("restart", restart),
        ("roles", roles),
        ("switchover", switchover),
        ("status", status),
        ("drift", drift),
        ("many", many),
        ("down", down),
        ("explain", page(&["explain", "armed"])),
        ("failed", page(&["plan", "none.yaml"])),
    ]
}

/// What each report must say.
const SAYS: [(&str, &[&str]); 12] = [
    (
        "new",
        &["new cluster (initdb)", "clone of a (pg_basebackup)", "after this plan", "*:*:replication:repuser:(secret)"],
    ),
    ("change", &[">restart</span>", ">outage</span>", "max_connections", "--allow outage,restart"]),
    ("applied", &["Applied: ", "a.configure.restart", "The plan"]),
    ("restart", &["No writes for ", "the server was away for "]),
    ("roles", &["Moves the primary from <code>a</code> to <code>b</code>", "after this plan: a is standby, from b"]),
    ("switchover", &["No writes for ", "shut down in ", "promoted in ", "class=\"outage\""]),
    ("status", &["healthy", "b is primary", "the scale is 16.0 MB"]),
    ("drift", &["work_mem", "postgresql.conf:", ">1 drift</span>"]),
    ("many", &["2 clusters", "could not be compared", "none.yaml"]),
    ("down", &["unhealthy", "server_down"]),
    ("explain", &["armed"]),
    ("failed", &["none.yaml"]),
];

#[test]
fn every_report_is_a_page_that_says_what_it_is_for_and_no_secret() {
    let pair = Workspace::new(Version(15));
    let reports = reports(&pair);
    assert_eq!(reports.len(), SAYS.len());
    for ((name, page), (of, says)) in reports.iter().zip(SAYS) {
        assert_eq!(*name, of);
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{name}: {page}");
        assert!(!page.contains("correct horse"), "{name}");
        let body = page.split_once("<body>").map_or("", |(_, body)| body);
        for text in says {
            assert!(body.contains(text), "{name} does not say {text}: {body}");
        }
    }
}

/// Where the pages and their screenshots are left.
fn shelf() -> PathBuf {
    let shelf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/look-html");
    fs::create_dir_all(&shelf).expect("our folder");
    shelf
}

/// A browser that has no past.
struct Browser {
    profile: PathBuf,
    is_dark: bool,
}

/// What it says of a page.
struct Shown {
    dom: String,
    console: Vec<String>,
}

impl Browser {
    fn run(&self, arguments: &[&str], page: &Path) -> Shown {
        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!self.is_dark));
        let profile = format!("--user-data-dir={}", self.profile.display());
        let output = Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--v=0",
            ])
            // A frame may be looked into, though both are files.
            .args(["--allow-file-access-from-files", &scheme, &profile])
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()
            .expect("chromium, see scripts/look-html");
        let log = String::from_utf8_lossy(&output.stderr);
        let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        Shown { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console }
    }

    fn open(&self, page: &Path) -> Shown {
        self.run(&["--dump-dom"], page)
    }

    fn photograph(&self, page: &Path, width: u32, to: &Path) {
        let (size, to) = (format!("--window-size={width},1400"), format!("--screenshot={}", to.display()));
        self.run(&[&size, &to], page);
    }
}

/// A page around a page, as wide as a phone, that says how wide its content is and what colour its ground has.
fn framed(page: &Path) -> PathBuf {
    let name = page.file_name().expect("a file").to_string_lossy().into_owned();
    let frame = page.with_file_name(format!("framed-{name}"));
    let text = format!(
        "<!DOCTYPE html><style>body {{ margin: 0 }} iframe {{ border: 0; width: {PHONE}px; height: 1400px }}</style>\
         <iframe src=\"{name}\"></iframe><p></p><script>\
         document.querySelector('iframe').onload = event => {{\
           const page = event.target.contentDocument;\
           document.querySelector('p').textContent = `width ${{page.documentElement.scrollWidth}}, `\
             + getComputedStyle(page.body).backgroundColor;\
         }}</script>"
    );
    fs::write(&frame, text).expect("our folder");
    frame
}

#[test]
#[ignore = "needs Chromium: scripts/look-html"]
fn a_browser_shows_every_report_without_a_complaint_and_no_wider_than_a_phone() {
    let pair = Workspace::new(Version(15));
    let shelf = shelf();
    for (name, page) in reports(&pair) {
        let file = shelf.join(format!("{name}.html"));
        fs::write(&file, &page).expect("our folder");
        for (is_dark, scheme, ground) in [(false, "light", "rgb(255, 255, 255)"), (true, "dark", "rgb(13, 17, 23)")] {
            let browser = Browser { profile: pair.path("profile"), is_dark };
            let shown = browser.open(&file);
            assert_eq!(shown.console, [""; 0], "{name}");
            let heading = page.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>")).expect("a heading").0;
            assert!(shown.dom.contains(&format!("<h1>{heading}</h1>")), "{name}: {}", shown.dom);
            let frame = framed(&file);
            let shown = browser.open(&frame);
            assert!(shown.dom.contains(&format!("<p>width {PHONE}, {ground}</p>")), "{name}, {scheme}: {}", shown.dom);
            browser.photograph(&file, 1280, &shelf.join(format!("{name}-{scheme}.png")));
            browser.photograph(&frame, PHONE, &shelf.join(format!("{name}-{scheme}-phone.png")));
        }
    }
}

#[test]
#[ignore = "needs Chromium: scripts/look-html"]
fn a_script_a_style_and_a_picture_that_come_into_a_page_are_refused_by_its_policy_and_seen_in_the_console() {
    let pair = Workspace::new(Version(15));
    let page = pair.pgpair(&["explain", "armed", "--format", "html"]).exits(0).stdout;
    let browser = Browser { profile: pair.path("profile"), is_dark: false };
    let foreign = [
        "<script>document.title = 'taken'</script>",
        "<p style=\"color: red\"></p>",
        "<img src=\"data:image/gif;base64,R0lGODlhAQABAAAAACw=\">",
    ];
    for element in foreign {
        let file = pair.write("taken.html", &page.replace("</main>", &format!("{element}</main>")), 0o644);
        let shown = browser.open(&file);
        assert!(
            shown.console.iter().any(|line| line.contains("Content Security Policy")),
            "{element}: {:?}",
            shown.console
        );
        assert!(!shown.dom.contains("<title>taken"), "{element}");
    }
}
